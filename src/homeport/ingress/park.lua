-- What a cold request waits for. Asks the activator (control/activator.py), one line each way:
--   park <pool>   ->   go | no <status> <why>
-- and answers what no backend can: an unknown host.

local here = debug.getinfo(1, "S").source:match("^@(.*/)")
local socket_file = assert(io.open(here .. "activator"))
local activator = "unix@" .. socket_file:read("l")
socket_file:close()

local FOREVER_S = 24 * 24 * 3600
local PATIENCE = 25 -- times 0.2 s: a control plane that is being restarted is back by then

local function answer(txn, status, text)
    local reply = txn:reply({ status = status })
    reply:add_header("Content-Type", "text/plain")
    if status == 503 or status == 429 then
        reply:add_header("Retry-After", "1")
    end
    reply:set_body("homeport: " .. text .. "\n")
    txn:done(reply)
end

core.register_action("park", { "http-req" }, function(txn)
    local pool = txn:get_var("txn.pool")
    if pool == nil then
        return answer(txn, 404, "app for invoked web endpoint is stopped")
    end
    local line
    for _ = 1, PATIENCE do
        local socket = core.tcp()
        socket:settimeout(FOREVER_S)
        if socket:connect(activator) ~= nil then
            socket:send("park " .. pool .. "\n")
            line = socket:receive("*l")
        end
        socket:close()
        if line ~= nil then
            break
        end
        core.msleep(200)
    end
    if line == nil then
        return answer(txn, 503, "no container is ready, and the server that would start one is away")
    end
    local status, why = line:match("^no (%d+) (.*)$")
    if status then
        return answer(txn, tonumber(status), why)
    end
end)

-- So that the control plane has heard of what just happened before the request looks again.
core.register_action("pause", { "http-req" }, function(txn)
    core.msleep(50)
end)

-- Class parameters in the query string choose a pool: `<pool>?a=1&b=2`, sorted, as they were written.
core.register_action("parameters", { "http-req" }, function(txn)
    local pool = txn:get_var("txn.pool")
    local query = txn.f:query()
    if pool == nil or query == nil then
        return
    end
    local values = {}
    for name, value in query:gmatch("([^&=]+)=([^&]*)") do
        values[name] = value
    end
    local chosen = {}
    for name in txn:get_var("txn.parameters"):gmatch("[^,]+") do
        if values[name] then
            chosen[#chosen + 1] = name .. "=" .. values[name]
        end
    end
    if #chosen > 0 then
        txn:set_var("txn.pool", pool .. "?" .. table.concat(chosen, "&"))
    end
end)

core.register_action("unknown", { "http-req" }, function(txn)
    local host = txn:get_var("txn.host") or ""
    local text = "there is no endpoint at `" .. host:gsub("[^%w.:*-]", "?") .. "`"
    local from = txn.f:src()
    local here_too = from == "::1" or from:match("^127%.") ~= nil
    -- Behind a proxy on this machine everybody comes from here.
    if here_too and txn.f:req_hdr_cnt("x-forwarded-for") == 0 then
        local known = {}
        local file = io.open(here .. "hosts.map")
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
