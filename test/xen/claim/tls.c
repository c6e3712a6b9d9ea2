// SPDX-License-Identifier: GPL-2.0-or-later
/* vmc-claim: kTLS, with keys that both ends know. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/tls.h>

#include "claim.h"

#ifndef SOL_TLS
#define SOL_TLS		282
#endif
#ifndef TCP_ULP
#define TCP_ULP		31
#endif

static void attach(struct side *s)
{
	if (!setsockopt(s->fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")))
		return;
	if (errno == ENOENT || errno == ENOPROTOOPT || errno == EPERM)
		skip(s, "no kTLS: %m");
	fail(s, "TCP_ULP: %m");
}

static void key(struct side *s, int direction, uint16_t version)
{
	struct tls12_crypto_info_aes_gcm_128 info = {
		.info = { version, TLS_CIPHER_AES_GCM_128 },
	};
	/* one for each way */
	int way = (direction == TLS_TX) == s->opener;

	memset(info.iv, 0x11 + way, sizeof(info.iv));
	memset(info.key, 0x21 + way, sizeof(info.key));
	memset(info.salt, 0x31 + way, sizeof(info.salt));
	if (!setsockopt(s->fd, SOL_TLS, direction, &info, sizeof(info)))
		return;
	if (errno == ENOENT || errno == EINVAL)
		skip(s, "no AES-GCM for kTLS: %m");
	fail(s, "TLS_%s: %m", direction == TLS_TX ? "TX" : "RX");
}

/* Plain bytes are unread when kTLS comes. */
static void while_local(struct side *s, uint16_t version)
{
	ready(s, "foreign-user");
	attach(s);
	expect_gone(s, "foreign-user");
	meet(s, 0);
	recv_some(s, IN_FLIGHT);
	key(s, TLS_TX, version);
	key(s, TLS_RX, version);
	meet(s, 0);
	flow(s, 200000);
}

void test_tls12(struct side *s)
{
	while_local(s, TLS_1_2_VERSION);
}

void test_tls13(struct side *s)
{
	while_local(s, TLS_1_3_VERSION);
}

/* One end sends records before the other has left shared memory, and reads plain bytes meanwhile. */
void test_tls_late(struct side *s)
{
	ready(s, "foreign-user");
	if (s->opener) {
		attach(s);
		expect_gone(s, "foreign-user");
		key(s, TLS_TX, TLS_1_2_VERSION);
		send_some(s, 5000);
		recv_some(s, IN_FLIGHT / 2);
	}
	meet(s, 0);
	if (!s->opener) {
		recv_some(s, IN_FLIGHT);	/* behind that are records */
		send_some(s, 1000);
		attach(s);
		expect_gone(s, "foreign-user");
		key(s, TLS_TX, TLS_1_2_VERSION);
		key(s, TLS_RX, TLS_1_2_VERSION);
		recv_some(s, 5000);
	} else {
		recv_some(s, IN_FLIGHT - IN_FLIGHT / 2 + 1000);
		key(s, TLS_RX, TLS_1_2_VERSION);
	}
	meet(s, 0);
	flow(s, 200000);
}

/* As most programs do it: before the first byte. */
void test_tls_first(struct side *s)
{
	attach(s);
	key(s, TLS_TX, TLS_1_3_VERSION);
	key(s, TLS_RX, TLS_1_3_VERSION);
	meet(s, 0);
	flow(s, 300000);
	expect_gone(s, "foreign-user");
}

/* The driver leaves and comes back while others have the socket. */
void test_tls_reload(struct side *s)
{
	while_local(s, TLS_1_3_VERSION);
	reload(s, "rmmod vmc");
	flow(s, 100000);
	reload(s, "modprobe vmc");
	flow(s, 100000);
}
