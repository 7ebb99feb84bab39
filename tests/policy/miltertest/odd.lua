-- Clients without an address, IPv6, an impolite end, an older protocol, unknown commands.
local function begin(version, steps)
    local conn = mt.connect(socket, 40, 0.25)
    if conn == nil then error("cannot connect") end
    if mt.negotiate(conn, version, nil, steps) ~= nil then error("negotiation failed") end
    return conn
end

for _, address in ipairs({"unspec", "2001:db8::7", "192.0.2.7"}) do
    local conn = begin(6, nil)
    if mt.conninfo(conn, "client.example", address) ~= nil then error(address) end
    if mt.getreply(conn) ~= SMFIR_CONTINUE then error(address .. " was refused") end
    mt.disconnect(conn, false)
end

-- Version 2, and bodies that are answered part by part.
local conn = begin(2, 0)
mt.conninfo(conn, "client.example", "192.0.2.7")
mt.helo(conn, "client.example")
mt.mailfrom(conn, "<>")
mt.rcptto(conn, "<b@y.example>")
if mt.header(conn, "Subject", "hello") ~= nil then error("header") end
if mt.bodyrandom(conn, 300000) ~= nil then error("body") end
if mt.eom(conn) ~= nil then error("end of message") end
if mt.getreply(conn) ~= SMFIR_ACCEPT then error("was not accepted") end
mt.disconnect(conn)
