-- Parks cold requests: asks the activator (control/fleet/activator.py), one line each way:
--   park <pool> <request id> [here | call]   ->   go | go waited | no <status> <why>
--   list                                     ->   go | no <status> <why>
--   awake <pool>                             ->   nothing
-- Writes the answers that no backend gives: an unknown host, and errors, for browsers in HTML.
-- HAProxy's working directory is the directory of this file.

local socket_file = assert(io.open("activator"))
local activator = "unix@" .. socket_file:read("l")
socket_file:close()

local FOREVER_S = 24 * 24 * 3600
local MAX_PARAMETERS = 4096 -- bytes, after quoting
local ROUNDS = 3 -- while a request is parked, a deploy may replace its pool: look the pool up again
local PATIENCE = 25 -- tries, 0.2 s apart: a control plane restarts within that time

local TITLES = {
    [400] = "This request cannot be read",
    [401] = "This page is protected",
    [404] = "There is nothing at this address",
    [405] = "This method does not work here",
    [408] = "The request took too long",
    [413] = "The request is too large",
    [414] = "The address is too long",
    [429] = "Too many requests",
    [431] = "The head of the request is too large",
    [500] = "Something went wrong",
    [502] = "The app ended without an answer",
    [503] = "The app cannot answer now",
    [504] = "The app took too long",
}

local page_file = assert(io.open("page.html"))
local page = page_file:read("a"):gsub("%s*\n%s*", " ") -- HAProxy would write `%0A` for a newline
page_file:close()

-- The maps of the configuration: what the Runtime API changes there is changed here.
local pools = Map.new("pools.map", Map._str)
local backends = Map.new("backends.map", Map._str)
local methods = Map.new("methods.map", Map._str)
local parameter_names = Map.new("parameters.map", Map._str)

local function escaped(text)
    return (text:gsub("[&<>\"']", function(character)
        return ("&#%d;"):format(character:byte())
    end))
end

-- The body of an answer: a line of text, or a page if a browser asks.
local function told(txn, status, text)
    if txn:get_var("txn.html") == nil then
        return "homeport: " .. text
    end
    txn:set_var("txn.page", 1)
    local fields = {
        status = tostring(status),
        title = TITLES[status] or "That did not work",
        text = text,
        request = txn:get_var("txn.id") or txn.f:unique_id() or "unknown",
    }
    return (page:gsub("{{(%l+)}}", function(name)
        return escaped(fields[name])
    end))
end

core.register_fetches("page", function(txn, status, text)
    return told(txn, tonumber(status), text)
end)

local function answer(txn, status, text)
    local reply = txn:reply({ status = status })
    reply:add_header("Content-Type", "text/plain; charset=utf-8")
    if status == 503 or status == 429 then
        reply:add_header("Retry-After", txn:get_var("txn.retry_after") or "1")
    end
    reply:set_body(told(txn, status, text) .. "\n")
    txn:done(reply)
end

-- Fields that Connection names are for this hop alone (RFC 9110, 7.6.1). These stay even if it names them:
-- they say where a message ends and where it goes.
local STAY = { close = true, ["keep-alive"] = true, upgrade = true, te = true, host = true,
    connection = true, ["content-length"] = true, ["transfer-encoding"] = true }

local function named(headers)
    local names = {}
    for _, value in pairs(headers["connection"] or {}) do
        for name in value:lower():gmatch("[^,%s]+") do
            if not STAY[name] then
                names[#names + 1] = name
            end
        end
    end
    return names
end

core.register_action("hop_by_hop", { "http-req" }, function(txn)
    local headers = txn.http:req_get_headers()
    for _, name in ipairs(named(headers)) do
        txn.http:req_del_header(name)
    end
    txn.http:req_del_header("connection")
    if headers["upgrade"] ~= nil then
        txn.http:req_set_header("connection", "upgrade")
    end
end)

core.register_action("hop_by_hop_response", { "http-res" }, function(txn)
    txn.http:res_del_header("keep-alive")
    txn.http:res_del_header("proxy-connection")
    if txn.f:status() == 101 then
        return
    end
    for _, name in ipairs(named(txn.http:res_get_headers())) do
        txn.http:res_del_header(name)
    end
    txn.http:res_del_header("connection")
    txn.http:res_del_header("upgrade")
end)

-- Answers what the rules in unusual.py have refused.
core.register_action("refuse", { "http-req" }, function(txn)
    local status, text = txn:get_var("txn.refused"):match("^(%d+) (.*)$")
    return answer(txn, tonumber(status), text)
end)

-- Whether the visitor is on this machine. All visitors of a proxy on this machine come from 127.0.0.1.
local function is_here(txn)
    local from = txn.f:src() or ""
    return txn:get_var("txn.proxied") == nil and (from == "::1" or from:match("^127%.") ~= nil)
end

-- Asks the activator once; nil if nobody answers within this time.
local function asked(line_out, patience_s)
    local line
    local socket = core.tcp()
    socket:settimeout(patience_s)
    if socket:connect(activator) ~= nil then
        socket:send(line_out .. "\n")
        line = socket:receive("*l")
    end
    socket:close()
    return line
end

-- The milliseconds that a request has waited for a container so far, and waits from now on.
local function waiting(txn)
    local began, before = core.now(), txn:get_var("txn.parked") or 0
    txn:set_var("txn.parked", before) -- also for a visitor who leaves meanwhile
    return function()
        local now = core.now()
        local ms = (now.sec - began.sec) * 1000 + (now.usec - began.usec) // 1000
        txn:set_var("txn.parked", before + math.max(ms, 0))
    end
end

-- Leads a request that was led to another version (guards.py) back to its endpoint; whether it was.
local function led_back(txn)
    local main = txn:get_var("txn.main")
    if main == nil then
        return false
    end
    txn:unset_var("txn.main")
    txn:unset_var("txn.asked")
    txn:set_var("txn.endpoint", main)
    txn.http:req_del_header("x-homeport-method")
    local method, names = methods:lookup(main), parameter_names:lookup(main)
    if method ~= nil then
        txn.http:req_set_header("x-homeport-method", method)
    end
    if names ~= nil then
        txn:set_var("txn.parameters", names)
    else
        txn:unset_var("txn.parameters")
    end
    return true
end

local function park(txn)
    local pool = txn:get_var("txn.pool")
    if pool == nil then
        return led_back(txn) or answer(txn, 404, "app for invoked web endpoint is stopped")
    end
    local ended = waiting(txn)
    local request = txn.f:req_fhdr("x-request-id") or "-"
    local line_out = "park " .. (txn:get_var("txn.asked") or pool) .. " " .. request
    -- On re-entry nothing shows whether a proxy sent the request.
    if txn:get_var("txn.called") then
        line_out = line_out .. " call"
    elseif txn:get_var("txn.came_back") == nil and is_here(txn) then
        line_out = line_out .. " here"
    end
    local line
    for _ = 1, PATIENCE do
        line = asked(line_out, FOREVER_S)
        if line ~= nil then
            break
        end
        core.msleep(200)
    end
    ended()
    -- The other version may have ended meanwhile, or its container did not start.
    if line ~= "go waited" and line ~= "go" and led_back(txn) then
        return
    end
    if line == nil then
        return answer(txn, 503, "no container is ready, and the server that would start one does not run")
    end
    local status, why = line:match("^no (%d+) (.*)$")
    if status then
        return answer(txn, tonumber(status), why)
    end
    -- The request waited for a container and lost it to another request, so its re-entries count from 0.
    if line == "go waited" and txn:get_var("txn.came_back") then
        txn.http:req_set_header("X-Homeport-Hops", "0")
    end
end

-- The first request to a pool since the control plane has asked for it (`Ingress.doze`). The request does not wait.
core.register_action("awake", { "http-req" }, function(txn)
    core.del_map("quiet.map", txn:get_var("txn.backend"))
    local pool = txn:get_var("txn.pool"):match("^[^?]*")
    core.register_task(function()
        asked("awake " .. pool, 10) -- there is no answer: it returns once the other side has read it
    end)
end)

-- Waits until the control plane knows that the container has ended, before the request parks.
core.register_action("pause", { "http-req" }, function(txn)
    local ended = waiting(txn)
    core.msleep(50)
    ended()
end)

local function decoded(text)
    return (text:gsub("+", " "):gsub("%%(%x%x)", function(digits)
        return string.char(tonumber(digits, 16))
    end))
end

-- Quotes as Python's `urllib.parse.quote(text, safe="")`: the result has no newline and no blank.
local function quoted(text)
    return (text:gsub("[^A-Za-z0-9._~-]", function(character)
        return ("%%%02X"):format(character:byte())
    end))
end

-- Class parameters in the query string choose a pool. The activator gets their values; the maps have only
-- a hash of them (maps.py, `pool_text`), because the visitor chooses the values.
local function parameters(txn)
    local pool = txn:get_var("txn.pool")
    local query = txn.f:query()
    txn:unset_var("txn.asked")
    if pool == nil or query == nil then
        return
    end
    local values = {}
    for name, value in query:gmatch("([^&=]+)=([^&]*)") do
        values[quoted(decoded(name))] = value
    end
    local chosen = {}
    for name in txn:get_var("txn.parameters"):gmatch("[^,]+") do
        if values[name] then
            chosen[#chosen + 1] = name .. "=" .. quoted(decoded(values[name]))
        end
    end
    if #chosen == 0 then
        return
    end
    local text = table.concat(chosen, "&")
    if #text > MAX_PARAMETERS then
        return answer(txn, 414, "the class parameters in the URL are too long")
    end
    txn:set_var("txn.asked", pool .. "?" .. text)
    txn:set_var("txn.pool", pool .. "?" .. txn.c:hex(txn.c:sha2(text, 256)):lower())
end

core.register_action("parameters", { "http-req" }, parameters)

-- Looks up the pool of the request's endpoint; whether it has a container.
local function look_up(txn)
    local pool = pools:lookup(txn:get_var("txn.endpoint") or "")
    if pool == nil then
        txn:unset_var("txn.pool")
        return false
    end
    txn:set_var("txn.pool", pool)
    if txn:get_var("txn.parameters") ~= nil then
        parameters(txn)
    end
    local backend = backends:lookup(txn:get_var("txn.pool"))
    if backend == nil then
        return false
    end
    txn:set_var("txn.backend", backend)
    return true
end

core.register_action("park", { "http-req" }, function(txn)
    for _ = 1, ROUNDS do
        park(txn)
        if look_up(txn) or (led_back(txn) and look_up(txn)) then
            return
        end
    end
end)

core.register_action("unknown", { "http-req" }, function(txn)
    local host = txn:get_var("txn.host") or ""
    local text = "there is no endpoint at `" .. host:gsub("[^%w.:*%[%]_-]", "?") .. "`"
    local ours = txn:get_var("txn.ours") and txn:get_var("txn.came_back") == nil and is_here(txn)
    if ours and asked("list", 5) == "go" then
        local known = {}
        local file = io.open("hosts.map")
        if file then
            for line in file:lines() do
                known[#known + 1] = line:match("^%S+")
            end
            file:close()
        end
        table.sort(known)
        if #known == 0 then
            text = text .. "; there are none, `homeport deploy script.py` makes one"
        else
            text = text .. "; there are " .. table.concat(known, ", ")
        end
    end
    answer(txn, 404, text)
end)
