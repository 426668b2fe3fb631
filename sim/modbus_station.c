/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_station.h"

#include "base/clock.h"

const char *const station_area_names[AREAS] = {"coils", "discrete_inputs", "holding_registers", "input_registers"};

bool station_area_of(struct str name, enum station_area *area)
{
    for (unsigned i = 0; i < AREAS; i++) {
        if (str_eq_z(name, station_area_names[i])) {
            *area = (enum station_area)i;
            return true;
        }
    }
    return false;
}

struct station *station_new(uint8_t unit)
{
    struct station *station = mem_zero(sizeof *station);

    station->unit = unit;
    return station;
}

void station_free(struct station *station)
{
    if (!station)
        return;
    for (unsigned i = 0; i < AREAS * 256; i++)
        mem_free(station->pages[i / 256][i % 256]);
    mem_free(station);
}

static uint16_t pattern_of(const struct station_conf *conf, enum station_area area, uint16_t address)
{
    if (area < AREA_HOLDING)
        return address % 3 == 0;
    switch (conf->pattern) {
    case PATTERN_ADDRESS:
        return address;
    case PATTERN_BENCH:
        return (uint16_t)(0x4100 | (address & 0xff));
    case PATTERN_WAVE:
        break;
    }
    uint64_t step = clock_mono_ms() / 100 + address * 37u;

    return (uint16_t)(200 + (step % 200 < 100 ? step % 100 : 100 - step % 100));
}

uint16_t station_get(struct station *station, const struct station_conf *conf, enum station_area area, uint16_t address)
{
    const struct station_page *page = station->pages[area][address >> 8];

    if (page && page->is_set[(address & 0xff) / 8] >> (address % 8) & 1)
        return page->values[address & 0xff];
    if (area >= AREA_HOLDING && address < 3) {
        uint64_t now_ms = clock_mono_ms();

        return address == 0 ? station->counter : address == 1 ? (uint16_t)(now_ms >> 16) : (uint16_t)now_ms;
    }
    return pattern_of(conf, area, address);
}

void station_set(struct station *station, enum station_area area, uint16_t address, uint16_t value)
{
    struct station_page **page = &station->pages[area][address >> 8];

    if (!*page)
        *page = mem_zero(sizeof **page);
    (*page)->values[address & 0xff] = value;
    (*page)->is_set[(address & 0xff) / 8] |= (uint8_t)(1u << address % 8);
}

static bool is_there(const struct station_conf *conf, const struct station_hole *holes, size_t n_holes,
                     enum station_area area, uint16_t address, unsigned n)
{
    if (address + n > conf->size)
        return false;
    for (size_t i = 0; i < n_holes; i++) {
        if (holes[i].area == area && address <= holes[i].to && address + n - 1 >= holes[i].from)
            return false;
    }
    return true;
}

static void count_poll(struct station *station, const struct station_conf *conf, struct station_counts *counts)
{
    uint64_t now_us = clock_mono_us();

    station->counter++;
    counts->n_polls++;
    if (station->n_polls++) {
        uint64_t interval_us = now_us - station->last_us, period_us = conf->period_ms * 1000ull;
        uint64_t jitter_us = interval_us > period_us ? interval_us - period_us : period_us - interval_us;

        histogram_add(&counts->jitter, jitter_us);
        if (jitter_us > station->max_jitter_us)
            station->max_jitter_us = jitter_us;
    } else {
        station->first_us = now_us;
    }
    station->last_us = now_us;
}

static void read_area(struct station *station, const struct station_conf *conf, enum station_area area,
                      const struct modbus_asked *asked, struct modbus_pdu *answer)
{
    uint8_t *p = modbus_answer_values(answer, asked);

    for (unsigned i = 0; i < asked->n; i++) {
        uint16_t value = station_get(station, conf, area, (uint16_t)(asked->address + i));

        if (area < AREA_HOLDING)
            p[i / 8] |= (uint8_t)((value & 1u) << i % 8);
        else
            modbus_put_be16(p + 2 * i, value);
    }
}

static void write_registers(struct station *station, uint16_t address, unsigned n, const uint8_t *data)
{
    for (unsigned i = 0; i < n; i++)
        station_set(station, AREA_HOLDING, (uint16_t)(address + i), modbus_be16(data + 2 * i));
}

static enum station_area area_of(uint8_t fc)
{
    switch (fc) {
    case MODBUS_READ_COILS:
    case MODBUS_WRITE_COIL:
    case MODBUS_WRITE_COILS:
        return AREA_COILS;
    case MODBUS_READ_DISCRETE:
        return AREA_DISCRETE;
    case MODBUS_READ_INPUT:
        return AREA_INPUT;
    default:
        return AREA_HOLDING;
    }
}

static void write_values(struct station *station, const struct station_conf *conf, const struct modbus_asked *asked)
{
    switch (asked->fc) {
    case MODBUS_WRITE_COIL:
        station_set(station, AREA_COILS, asked->address, asked->is_on);
        break;
    case MODBUS_WRITE_COILS:
        for (unsigned i = 0; i < asked->n; i++)
            station_set(station, AREA_COILS, (uint16_t)(asked->address + i), asked->data[i / 8] >> i % 8 & 1);
        break;
    case MODBUS_MASK_WRITE_REGISTER: { /* 6.16 */
        uint16_t value = station_get(station, conf, AREA_HOLDING, asked->address);

        station_set(station, AREA_HOLDING, asked->address,
                    (uint16_t)((value & asked->and_mask) | (asked->or_mask & ~asked->and_mask)));
        break;
    }
    default:
        write_registers(station, asked->address, asked->n, asked->data);
        break;
    }
}

static void answer_others(const struct modbus_asked *asked, const struct modbus_pdu *ask, struct modbus_pdu *answer)
{
    static const struct str objects[] = {STR("iotgw"), STR("SIM"), STR("1"), STR("https://example.org/iotgw"),
                                         STR("Simulated station")};

    switch (asked->fc) {
    case MODBUS_DIAGNOSTICS:
        *answer = *ask; /* 6.8, sub-function 0: what was asked comes back */
        if (modbus_be16(asked->data) != 0)
            modbus_refuse(answer, asked->fc, MODBUS_ILLEGAL_FUNCTION);
        break;
    case MODBUS_REPORT_SERVER_ID:
        answer->n = 5;
        memcpy(answer->bytes, (const uint8_t[]){MODBUS_REPORT_SERVER_ID, 3, 'S', 'I', 0xff}, 5);
        break;
    case MODBUS_ENCAPSULATED:
        modbus_answer_identity(answer, asked, objects, COUNT_OF(objects));
        break;
    default:
        modbus_refuse(answer, asked->fc, MODBUS_ILLEGAL_FUNCTION);
        break;
    }
}

void station_answer(struct station *station, const struct station_conf *conf, const struct station_hole *holes,
                    size_t n_holes, const struct modbus_pdu *ask, struct modbus_pdu *answer,
                    struct station_counts *counts)
{
    struct modbus_asked asked;
    uint8_t exception = modbus_read_request(&asked, ask);
    enum station_area area = area_of(asked.fc);

    if (!exception && asked.n && !is_there(conf, holes, n_holes, area, asked.address, asked.n))
        exception = MODBUS_ILLEGAL_ADDRESS;
    if (!exception && asked.n_write && !is_there(conf, holes, n_holes, area, asked.write_address, asked.n_write))
        exception = MODBUS_ILLEGAL_ADDRESS;
    if (exception) {
        modbus_refuse(answer, asked.fc, exception);
        return;
    }
    switch (asked.fc) {
    case MODBUS_READ_WRITE_REGISTERS: /* 6.17: the write goes first */
        write_registers(station, asked.write_address, asked.n_write, asked.data);
        counts->n_writes++;
        read_area(station, conf, area, &asked, answer);
        break;
    case MODBUS_READ_COILS:
    case MODBUS_READ_DISCRETE:
    case MODBUS_READ_HOLDING:
    case MODBUS_READ_INPUT:
        if (area >= AREA_HOLDING && asked.address == 0)
            count_poll(station, conf, counts);
        read_area(station, conf, area, &asked, answer);
        break;
    case MODBUS_WRITE_COIL:
    case MODBUS_WRITE_REGISTER:
    case MODBUS_WRITE_COILS:
    case MODBUS_WRITE_REGISTERS:
    case MODBUS_MASK_WRITE_REGISTER:
        write_values(station, conf, &asked);
        counts->n_writes++;
        modbus_confirm(answer, ask);
        break;
    default:
        answer_others(&asked, ask, answer);
        break;
    }
}
