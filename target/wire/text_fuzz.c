/*
 * Any bytes as the text of one step: parsed, negotiated on both sides at every stage, and each
 * value read in every notation. What was accepted must also be well formed.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "wire/chap.h"
#include "wire/params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int caller_key(void *arg, enum wire_key key, const struct wire_text_pair *pair)
{
	(void)arg;
	assert(wire_key_find(pair->key) == key);
	return 0;
}

static void read_values(const struct wire_text_pair *pair)
{
	uint8_t binary[LIMIT_CHAP_BINARY_BYTES];
	enum chap_algorithm algorithm;
	size_t bytes;
	uint64_t number;
	bool boolean;

	assert(strlen(pair->key) > 0 && strlen(pair->value) == pair->value_bytes);
	if (wire_text_number(pair->value, 3, 1000000, &number) == 0)
		assert(number >= 3 && number <= 1000000);
	wire_text_boolean(pair->value, &boolean);
	if (wire_text_binary(pair->value, binary, sizeof(binary), &bytes) == 0)
		assert(bytes > 0 && bytes <= sizeof(binary));
	wire_text_list_has(pair->value, "CHAP");
	if (chap_pick(pair->value, &algorithm) == 0)
		assert(chap_digest_bytes(algorithm) > 0);
	if (wire_iscsi_name_valid(pair->value))
		assert(pair->value_bytes <= LIMIT_ISCSI_NAME_BYTES);
}

static void negotiate(enum wire_side side, enum wire_stage stage, bool discovery,
		      const struct wire_text_list *list)
{
	struct wire_params offered = wire_params_target();
	const struct wire_text_pair *failed;
	struct wire_negotiation negotiation;
	struct wire_text_writer writer;
	struct wire_text_list answers;
	uint8_t text[16384];

	wire_negotiation_init(&negotiation, side, &offered);
	negotiation.discovery = discovery;
	wire_text_writer_init(&writer, text, sizeof(text));
	if (side == WIRE_INITIATOR)
		wire_negotiation_open(&negotiation, &writer);
	if (wire_negotiation_take_all(&negotiation, stage, list, caller_key, NULL, &writer,
				      &failed) == 0 &&
	    wire_negotiation_finish(&negotiation) == 0)
		assert(negotiation.agreed.first_burst_bytes <= negotiation.agreed.max_burst_bytes);
	assert(!writer.overflow);
	if (side == WIRE_TARGET)
		assert(wire_text_parse(text, writer.bytes, &answers) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_text_list list;
	struct wire_params params = wire_params_default();

	if (wire_text_parse(data, size, &list))
		return 0;
	for (unsigned i = 0; i < list.count; i++) {
		struct wire_text_writer writer;
		uint8_t answer[256];

		read_values(&list.pairs[i]);
		wire_text_writer_init(&writer, answer, sizeof(answer));
		wire_params_text_ffp(&params, &list.pairs[i], &writer);
		assert(!writer.overflow && params.max_send_segment_bytes >= 512);
	}
	negotiate(WIRE_TARGET, WIRE_STAGE_SECURITY, false, &list);
	negotiate(WIRE_TARGET, WIRE_STAGE_OPERATIONAL, false, &list);
	negotiate(WIRE_TARGET, WIRE_STAGE_OPERATIONAL, true, &list);
	negotiate(WIRE_INITIATOR, WIRE_STAGE_OPERATIONAL, false, &list);
	return 0;
}
