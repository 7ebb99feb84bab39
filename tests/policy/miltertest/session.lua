-- A whole session with everything judged: what is negotiated, answered and accepted.
conn = mt.connect(socket, 40, 0.25)
if conn == nil then error("cannot connect") end
if mt.negotiate(conn, 6, nil, nil) ~= nil then error("negotiation failed") end
if not mt.test_action(conn, SMFIF_QUARANTINE) then error("does not want to quarantine") end
if not mt.test_action(conn, SMFIF_CHGHDRS) then error("does not want to change headers") end
if mt.test_action(conn, SMFIF_CHGBODY) then error("wants to change bodies") end
if not mt.test_option(conn, SMFIP_NR_HDR) then error("would answer headers") end
if not mt.test_option(conn, SMFIP_NOUNKNOWN) then error("wants unknown commands") end
if mt.test_option(conn, SMFIP_NOBODY) then error("wants no body") end

local function go_on(problem, what)
    if problem ~= nil then error(what .. ": " .. problem) end
    if mt.getreply(conn) ~= SMFIR_CONTINUE then
        mt.echo(what .. " was not continued")
        error(what)
    end
end

go_on(mt.conninfo(conn, "client.example", "192.0.2.7"), "connection")
mt.macro(conn, SMFIC_HELO, "{tls_version}", "TLSv1.3")
if mt.helo(conn, "client.example") ~= nil then error("helo") end
if not mt.test_option(conn, SMFIP_NR_HELO) then error("would answer HELO") end
for message = 1, 3 do
    mt.macro(conn, SMFIC_MAIL, "{auth_authen}", "jane")
    go_on(mt.mailfrom(conn, "<a@x.example>", "SIZE=100"), "mail")
    go_on(mt.rcptto(conn, "<b@y.example>"), "rcpt")
    go_on(mt.rcptto(conn, "<c@y.example>"), "rcpt")
    if message == 2 then
        mt.abort(conn)
    else
        mt.header(conn, "Subject", "message " .. message)
        mt.header(conn, "From", "a@x.example")
        mt.bodystring(conn, "body\r\n")
        if mt.eom(conn) ~= nil then error("end of message failed") end
        if mt.getreply(conn) ~= SMFIR_ACCEPT then error("was not accepted") end
    end
end
mt.disconnect(conn)
