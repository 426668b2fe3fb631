/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of Modbus masters to the gateway's own memory: unit, length and PDU, one after the other. */
#include "fuzz.h"

#include "conf/conf.h"
#include "modbus_server.h"

static const char file_text[] =
    "{\"slave\":{\"host\":\"h\",\"unitId\":1,\"sendDataToThingsBoard\":true,\"identity\":{\"vendorName\":\"V\"},"
    "\"values\":{"
    "\"holding_registers\":{\"timeseries\":[{\"tag\":\"a\",\"type\":\"string\",\"address\":10,\"objectsCount\":125}]},"
    "\"coils_initializer\":{\"timeseries\":[{\"tag\":\"c\",\"type\":\"bits\",\"address\":65530,\"objectsCount\":6}]}}}"
    "}";

static void not_encoded(void *arg, const struct modbus_point *point, const struct why *why)
{
    (void)arg;
    (void)point;
    (void)why;
    FUZZ_CHECK(false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct problems problems; /* kept: the file lives as long as the process */
    static struct modbus_image image;
    static struct modbus_diary diary;
    static struct conf *conf;
    struct rd rd = rd_of(data, size);

    if (!conf) {
        problems_init(&problems);
        conf = conf_load_text(&modbus_conf_type, ".", "fuzz", str_from(file_text), &problems);
        FUZZ_CHECK(conf && ((const struct modbus_file *)conf_root(conf))->own);
        modbus_image_init(&image);
        modbus_image_fill(&image, ((const struct modbus_file *)conf_root(conf))->own, not_encoded, NULL);
    }
    while (rd_left(&rd) > 2) {
        const struct modbus_own *own = ((const struct modbus_file *)conf_root(conf))->own;
        struct modbus_pdu ask = {0}, answer;
        struct modbus_change change;
        uint8_t unit = rd_u8(&rd);
        struct str bytes;

        ask.n = rd_u8(&rd);
        if (ask.n > rd_left(&rd))
            ask.n = (uint8_t)rd_left(&rd);
        if (ask.n > MODBUS_PDU_MAX)
            ask.n = MODBUS_PDU_MAX;
        bytes = rd_str(&rd, ask.n);
        memcpy(ask.bytes, bytes.p, bytes.n);
        if (modbus_serve(&image, &diary, own, unit, &ask, &answer, &change) && ask.n)
            FUZZ_CHECK(answer.n >= 2 && answer.n <= MODBUS_PDU_MAX &&
                       (answer.bytes[0] & 0x7f) == (ask.bytes[0] & 0x7f));
        FUZZ_CHECK((change.area != MODBUS_INPUT && change.area != MODBUS_DISCRETE) || !change.n);
        FUZZ_CHECK(change.address + change.n <= 65536);
    }
    return 0;
}
