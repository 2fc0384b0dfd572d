-- Answers the requests that came to a joined machine after their container had ended (ingress/arriving.py).
-- The answer comes after the whole request: HAProxy loses an answer to one that it still sends.

local PIECE = 65536
local PAUSE_MS = 50 -- until the control plane has heard of the end: else the ingress would ask again at once

core.register_service("gone", "http", function(applet)
    local piece
    repeat
        piece = applet:receive(PIECE)
    until piece == nil or piece == ""
    core.msleep(PAUSE_MS)
    applet:set_status(425)
    applet:add_header("X-Homeport-Gone", "1")
    applet:add_header("Content-Length", "0")
    applet:start_response()
end)
