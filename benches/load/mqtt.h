// SPDX-License-Identifier: Apache-2.0
// The client's side of MQTT 3.1.1, QoS 0, as far as a load generator needs it: each client subscribes its own topic.
#ifndef LOAD_MQTT_H
#define LOAD_MQTT_H

#include "xmpp.h"

void mqtt_setup(const struct xmpp_events *events);

extern const struct protocol mqtt_protocol;

// A numbered publication of `bytes` in all to the client `to`, number 0, malloc'ed; `*number_at` is where the digits start.
char *mqtt_publish(const char *to, size_t bytes, size_t *size, size_t *number_at);

#endif
