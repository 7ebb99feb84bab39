-- Verdicts that the sender's name asks for, and the changes that come with them.
local function message(sender)
    local conn = mt.connect(socket, 40, 0.25)
    if conn == nil then error("cannot connect") end
    mt.conninfo(conn, "client.example", "192.0.2.7")
    mt.helo(conn, "client.example")
    mt.mailfrom(conn, "<" .. sender .. "@x.example>")
    mt.rcptto(conn, "<b@y.example>")
    mt.header(conn, "Subject", "hello")
    mt.bodystring(conn, "body\r\n")
    if mt.eom(conn) ~= nil then error(sender .. ": end of message failed") end
    return conn
end

local conn = message("reject")
if not mt.eom_check(conn, MT_SMTPREPLY, "550", "5.7.1", "no, 100%% sure") then
    error("reject: not in these words")
end
if mt.eom_check(conn, MT_HDRADD) then error("reject: a header was added") end
mt.disconnect(conn)

conn = message("tempfail")
if not mt.eom_check(conn, MT_SMTPREPLY, "451", "4.7.1", "later") then error("tempfail") end
mt.disconnect(conn)

conn = message("discard")
if mt.getreply(conn) ~= SMFIR_DISCARD then error("discard") end
mt.disconnect(conn)

conn = message("quarantine")
if not mt.eom_check(conn, MT_QUARANTINE, "badword:17: a bad word") then error("quarantine") end
if mt.getreply(conn) ~= SMFIR_ACCEPT then error("quarantine was not accepted") end
mt.disconnect(conn)

conn = message("change")
if not mt.eom_check(conn, MT_HDRADD, "X-Relay-Policy", " ok") then error("added header") end
if not mt.eom_check(conn, MT_HDRCHANGE, "Subject", " new") then error("changed header") end
if not mt.eom_check(conn, MT_HDRDELETE, "X-Old") then error("deleted header") end
if not mt.eom_check(conn, MT_RCPTADD, "<c@y.example>") then error("added recipient") end
if not mt.eom_check(conn, MT_RCPTDELETE, "<b@y.example>") then error("deleted recipient") end
if mt.eom_check(conn, MT_BODYCHANGE) then error("changed body") end
if mt.getreply(conn) ~= SMFIR_ACCEPT then error("change was not accepted") end
mt.disconnect(conn)
