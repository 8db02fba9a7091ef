-- SPDX-License-Identifier: Apache-2.0
-- Prosody for the load runs: what Debian's package enables by default, less `limits` (10 kB/s a client) and
-- s2s/dialback and the admin shell, with accounts made in-band and TLS offered but not required.
-- Words that begin with a dollar sign are filled in by the runner.
-- gc: "incremental" is Prosody's default; "generational" (Lua 5.4) is its fair best under load.
run_as_root = true -- a private process on loopback, started from a build directory
daemonize = false
pidfile = "$data/prosody.pid"
data_path = "$data/data"
interfaces = { "127.0.0.1" }
c2s_ports = { $port }
c2s_direct_tls_ports = { $tls_port }
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
gc = { mode = "$gc" }
network_settings = { read_timeout = 3600 }

modules_enabled = {
	"disco", "roster", "saslauth", "tls",
	"blocklist", "bookmarks", "carbons", "pep", "private", "smacks", "vcard4", "vcard_legacy",
	"csi_simple", "invites", "invites_adhoc", "invites_register", "ping", "register", "time", "uptime", "version",
	"admin_adhoc", "posix",
}
modules_disabled = { "s2s" }

authentication = "internal_hashed"
allow_registration = true
registration_invite_only = false
certificates = "$data"
ssl = { certificate = "$certificate"; key = "$key" }
log = { warn = "$data/prosody.log" }

VirtualHost "localhost"

VirtualHost "anon.localhost" -- SASL ANONYMOUS: logins without password work
	authentication = "anonymous"
