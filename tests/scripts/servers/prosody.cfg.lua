-- SPDX-License-Identifier: Apache-2.0
-- Prosody for the transcripts: the modules of Debian's package whose specifications have transcripts. No s2s; accounts in-band.
-- Words that begin with a dollar sign are filled in by the runner.
run_as_root = true -- a private process on loopback, started from a temporary directory
daemonize = false
pidfile = "$data/prosody.pid"
data_path = "$data/data"
interfaces = { "127.0.0.1" }
c2s_ports = { $port }
c2s_direct_tls_ports = { $tls_port }
c2s_require_encryption = true

modules_enabled = {
	"disco", "roster", "saslauth", "tls", "posix", "register",
	"blocklist", "carbons", "csi_simple", "lastactivity", "pep", "ping", "private", "smacks", "time", "vcard_legacy", "version",
}
modules_disabled = { "s2s" }

authentication = "internal_hashed"
allow_registration = true
smacks_hibernation_time = 60
certificates = "$data"
ssl = { certificate = "$certificate"; key = "$key" }
log = { warn = "$data/prosody.log" }

VirtualHost "localhost"
