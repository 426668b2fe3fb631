/* SPDX-License-Identifier: Apache-2.0 */
/* A link against a peer that does anything: a script of requests, bytes, losses and time. Each request ends exactly once. */
#include "base/log.h"
#include "fuzz.h"
#include "modbus_fake_line.h"
#include "modbus_link.h"

#include <assert.h>

enum { REQUESTS = 8 };

static struct {
    struct loop *loop;
    struct modbus_link *link;
    struct modbus_request requests[REQUESTS];
    bool is_out[REQUESTS], is_closed;
} rig;

static void on_done(struct modbus_request *request, enum err err, const struct modbus_pdu *reply)
{
    size_t i = (size_t)(request - rig.requests);

    assert(rig.is_out[i]);
    rig.is_out[i] = false;
    assert(!reply || (err == ERR_OK && modbus_check_answer(&request->pdu, reply, NULL) == ERR_OK));
}

static void on_closed(void *arg)
{
    (void)arg;
    rig.is_closed = true;
}

static void send_one(uint8_t how, uint8_t what)
{
    size_t i = how % REQUESTS;
    struct modbus_request *request = &rig.requests[i];

    if (rig.is_out[i]) {
        modbus_link_cancel(rig.link, request);
        return;
    }
    *request = (struct modbus_request){
        .unit = what % 4, .retries = what >> 6, .is_command = how & 0x80, .timeout_ms = 100 + what, .done = on_done};
    if (what & 8)
        modbus_ask_write_register(&request->pdu, how, what);
    else if (what & 16)
        modbus_ask_identity(&request->pdu, 1, 0);
    else if (modbus_ask_read(&request->pdu, (enum modbus_fc)(1 + what % 4), how, 1 + what % 50))
        return;
    rig.is_out[i] = true;
    modbus_link_send(rig.link, request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct log log;
    struct modbus_link_conf conf = {.name = "fuzz"};
    size_t at = 2;

    if (size < 3)
        return 0;
    log_init(&log, "fuzz", LOG_LEVEL_OFF);
    memset(&rig, 0, sizeof rig);
    rig.loop = loop_new_fake(1700000000000);
    conf.framing = (enum modbus_framing)(data[0] % 3);
    conf.line.kind = (enum modbus_line_kind)(data[0] / 3 % 3);
    conf.line.serial =
        (struct serial_conf){.path = "x", .baudrate = 9600, .bytesize = 8, .half_stopbits = 2, .parity = 'N'};
    conf.max_in_flight = data[1] % 17;
    conf.local_echo = data[1] & 0x20;
    conf.delay_ms = data[1] & 0x40 ? 5 : 0;
    rig.link = modbus_link_new(rig.loop, &log, &conf, NULL, NULL);
    loop_advance(rig.loop, 0);
    while (at + 2 < size) {
        uint8_t op = data[at] % 6, a = data[at + 1], b = data[at + 2];
        size_t left = size - at - 2;

        at += 3;
        if (op == 0) {
            send_one(a, b);
        } else if (op == 1) {
            loop_advance(rig.loop, a * 8u);
        } else if (op == 2 && fake_line.line) {
            fake_line_open();
        } else if (op == 3 && fake_line.line) {
            fake_line_lose(ERR_CLOSED);
        } else if (op >= 4 && fake_line.line) {
            size_t n = a % 40 < left - 1 ? a % 40 : left - 1;

            fake_line_feed(data + at, n, b % 8);
            at += n;
        }
        loop_advance(rig.loop, 0);
        fake_line.out.n = 0;
    }
    modbus_link_close(rig.link, on_closed, NULL);
    loop_advance(rig.loop, 0);
    assert(rig.is_closed);
    for (unsigned i = 0; i < REQUESTS; i++)
        assert(!rig.is_out[i]);
    fake_line_reset();
    loop_free(rig.loop);
    return 0;
}
