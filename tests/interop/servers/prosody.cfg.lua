-- SPDX-License-Identifier: Apache-2.0
-- Prosody for our client: login over TLS only, accounts in-band, a pubsub service that makes nodes at the first publish.
-- Words that begin with a dollar sign are filled in by the runner.
run_as_root = true -- a private process on loopback, started from a temporary directory
daemonize = false
pidfile = "$data/prosody.pid"
data_path = "$data/data"
interfaces = { "127.0.0.1" }
c2s_ports = { $port }
c2s_direct_tls_ports = { $tls_port }
c2s_require_encryption = true
admins = { "boiler@localhost" } -- who may make nodes

modules_enabled = { "disco", "roster", "saslauth", "tls", "posix", "register", "pep", "ping", "smacks", "version" }
modules_disabled = { "s2s" }

authentication = "internal_hashed"
allow_registration = true
certificates = "$data"
ssl = { certificate = "$certificate"; key = "$key" }
log = { warn = "$data/prosody.log" }

VirtualHost "localhost"

Component "pubsub.localhost" "pubsub"
	autocreate_on_publish = true
