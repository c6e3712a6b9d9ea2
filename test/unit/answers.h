/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a healthy vmcd answers. */
#ifndef VMC_ANSWERS_H
#define VMC_ANSWERS_H

#define ANSWER_STATUS								\
	"{\"parameters\":{\"version\":\"0.1.0\",\"pid\":4711,\"uptime\":93784,"	\
	"\"guests\":2,\"channels\":1,\"protocol_min\":1,\"protocol_max\":1}}"

#define GUEST_WEB								\
	"{\"domid\":4,\"name\":\"web1\",\"uuid\":\"6f1c7a52-8a0e-4b57-9f7e-000000000001\"," \
	"\"state\":\"connected\",\"driver\":\"0.1.0\",\"protocol\":1,\"error\":\"\","	\
	"\"macs\":[\"00:16:3e:00:00:01\",\"00:16:3e:00:00:02\"],"		\
	"\"bridges\":[\"xenbr0\",\"xenbr1\"],\"channels\":1,"		\
	"\"quarantined\":[\"db\",\"mail\"],\"prepared\":\"no\"}"
#define GUEST_DB								\
	"{\"domid\":12,\"name\":\"db\",\"uuid\":\"6f1c7a52-8a0e-4b57-9f7e-000000000002\"," \
	"\"state\":\"waiting\",\"driver\":\"\",\"protocol\":0,\"error\":\"\","	\
	"\"macs\":[\"00:16:3e:00:00:03\"],\"bridges\":[\"xenbr0\"],\"channels\":0,"	\
	"\"quarantined\":[],\"prepared\":\"prepared\"}"
#define ANSWER_GUESTS "{\"parameters\":{\"guests\":[" GUEST_WEB "," GUEST_DB "]}}"
#define ANSWER_NO_GUESTS "{\"parameters\":{\"guests\":[]}}"

#define END_WEB									\
	"{\"domid\":4,\"name\":\"web1\",\"reported\":true,\"tx_streams\":3,\"rx_streams\":2," \
	"\"tx_bytes\":1610612736,\"rx_bytes\":2048,\"tx_packets\":9007199254740995," \
	"\"rx_packets\":12,\"tx_dropped\":8,\"rx_dropped\":6,\"rings\":5,\"grants\":330," \
	"\"memory\":1351680,\"events_sent\":17,\"events_received\":19,"		\
	"\"takeovers\":9007199254740993,\"ended\":4}"
#define END_DB									\
	"{\"domid\":12,\"name\":\"db\",\"reported\":false,\"tx_streams\":0,\"rx_streams\":0," \
	"\"tx_bytes\":0,\"rx_bytes\":0,\"tx_packets\":0,\"rx_packets\":0,"	\
	"\"tx_dropped\":0,\"rx_dropped\":0,\"rings\":0,\"grants\":0,\"memory\":0," \
	"\"events_sent\":0,\"events_received\":0,\"takeovers\":0,\"ended\":0}"
#define CHANNEL "{\"id\":7,\"mode\":\"local\",\"a\":" END_WEB ",\"b\":" END_DB "}"
#define ANSWER_CHANNELS "{\"parameters\":{\"channels\":[" CHANNEL "]}}"
#define ANSWER_NO_CHANNELS "{\"parameters\":{\"channels\":[]}}"

#define STATS									\
	"{\"reported\":true,\"sockets\":11,\"hooked\":1200,\"memory\":1359872,"	\
	"\"grants\":332,\"mapped\":65,\"fallbacks\":["				\
	"{\"reason\":\"no-peer\",\"count\":12},{\"reason\":\"oob\",\"count\":1}]}"
#define ANSWER_DETAILS								\
	"{\"parameters\":{\"guest\":" GUEST_WEB ",\"limits\":{\"memory\":67108864,\"poll\":null," \
	"\"streams\":5,\"packets\":\"off\"},\"stats\":" STATS ",\"channels\":[" CHANNEL "]}}"

#define ANSWER_PREPARED "{\"parameters\":{\"milliseconds\":12}}"
#define ANSWER_RESUMED "{\"parameters\":{}}"
#define ANSWER_CANNOT_PREPARE							\
	"{\"error\":\"io.vmc.Manager.CannotPrepare\","				\
	"\"parameters\":{\"reason\":\"d12 does not let go of channel 7\"}}"
#define ANSWER_HOLDS_ANOTHER							\
	"{\"error\":\"io.vmc.Manager.HoldsAnother\",\"parameters\":{\"guest\":\"db\"}}"

#define ANSWER_ALLOWED								\
	"{\"parameters\":{\"allowed\":true,\"rule\":\"\","			\
	"\"peers\":true,\"obstacle\":\"\"}}"
#define ANSWER_ALLOWED_BY_RULE							\
	"{\"parameters\":{\"allowed\":true,\"rule\":\"/etc/vmc/vmcd.conf:5: allow web any\"," \
	"\"peers\":false,\"obstacle\":\"no link to both\"}}"
#define ANSWER_FORBIDDEN							\
	"{\"parameters\":{\"allowed\":false,\"rule\":\"/etc/vmc/vmcd.conf:6: deny any any\"," \
	"\"peers\":false,\"obstacle\":\"/etc/vmc/vmcd.conf:6: deny any any\"}}"

#define ANSWER_NO_SUCH_GUEST							\
	"{\"error\":\"io.vmc.Manager.NoSuchGuest\",\"parameters\":{\"guest\":\"nobody\"}}"
#define ANSWER_AMBIGUOUS							\
	"{\"error\":\"io.vmc.Manager.AmbiguousGuest\",\"parameters\":{\"guest\":\"web\"}}"
#define ANSWER_DENIED "{\"error\":\"io.vmc.Manager.PermissionDenied\"}"
#define ANSWER_BUSY "{\"error\":\"io.vmc.Manager.TooManyClients\",\"parameters\":{}}"
#define ANSWER_NO_METHOD							\
	"{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"x\"}}"

#endif
