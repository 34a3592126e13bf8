/* A whole Paceline device with nothing but sockets: docs/wire.md in C99, for Linux and most things with a BSD socket.
 *
 *   cc -O2 -o device device.c && ./device HOST PORT TENANT/NODE PASSWORD [SECONDS]
 *
 * It makes one motion.1 sample a second, one sample a frame, keeps unacknowledged rows in a ring in memory (a real device: flash), sends them
 * in bundles, probes when acks stay away, forgets a row when it is stored or refused, and connects again when the link breaks. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { RING = 4096, ROW_MAX = 256, BUNDLE_ROWS = 32, WINDOW = 256, BUF = 32768 };

typedef struct { uint8_t bytes[ROW_MAX]; uint16_t length; uint8_t done; } Row;

static Row ring[RING];              /* row n lies at n % RING; rows first_n .. next_n - 1 are kept */
static uint64_t first_n, next_n, unsent_n, epoch, boot, seq, rejected, refused;
static int sock = -1;
static uint16_t packet_id;
static uint8_t in[BUF];
static size_t in_length;
static char node[70], ack_topic[128], up_topic[128];
static int64_t heard_us, probe_at_us, written_us;
static int64_t backoff_us = 2000000;

static int64_t now_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static uint64_t random_u64(void)
{
    uint64_t value = 0;
    FILE *source = fopen("/dev/urandom", "rb");
    if (!source || fread(&value, 8, 1, source) != 1) { fprintf(stderr, "no random source\n"); exit(1); }
    fclose(source);
    return value;
}

static void put_le(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t crc32_of(const uint8_t *data, size_t length)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
    }
    return ~crc;
}

/* --- msgpack: only what frames and acks need ------------------------------------------------------------------------------------- */

static size_t pack_u64(uint8_t *at, uint64_t value)
{
    at[0] = 0xCF;
    for (int i = 0; i < 8; i++) at[1 + i] = (uint8_t)(value >> (56 - 8 * i));
    return 9;
}

static size_t pack_i64(uint8_t *at, int64_t value)
{
    size_t length = pack_u64(at, (uint64_t)value);
    at[0] = 0xD3;
    return length;
}

static size_t pack_str(uint8_t *at, const char *text)
{
    size_t length = strlen(text);
    at[0] = 0xD9;
    at[1] = (uint8_t)length;
    memcpy(at + 2, text, length);
    return 2 + length;
}

typedef struct { const uint8_t *at, *end; int bad; } Reader;

static uint64_t read_be(Reader *r, int bytes)
{
    uint64_t value = 0;
    if (r->end - r->at < bytes) { r->bad = 1; return 0; }
    while (bytes--) value = value << 8 | *r->at++;
    return value;
}

static uint64_t read_uint(Reader *r)
{
    uint8_t tag = (uint8_t)read_be(r, 1);
    if (tag < 0x80) return tag;
    if (tag >= 0xCC && tag <= 0xCF) return read_be(r, 1 << (tag - 0xCC));
    r->bad = 1;
    return 0;
}

static uint32_t read_array(Reader *r)
{
    uint8_t tag = (uint8_t)read_be(r, 1);
    if (tag >> 4 == 9) return tag & 15;
    if (tag == 0xDC) return (uint32_t)read_be(r, 2);
    r->bad = 1;
    return 0;
}

static void skip_str(Reader *r)
{
    uint8_t tag = (uint8_t)read_be(r, 1);
    uint64_t length = tag >> 5 == 5 ? tag & 31u : tag == 0xD9 ? read_be(r, 1) : 0xFFFF;
    if ((uint64_t)(r->end - r->at) < length) r->bad = 1; else r->at += length;
}

/* --- rows ------------------------------------------------------------------------------------------------------------------------ */

static void take_sample(const char *device, const char *subject, double speed_mps, double distance_m, uint8_t hr_bpm)
{
    if (next_n - first_n == RING) { rejected++; return; }   /* full: the oldest stay, the new one is counted */
    uint8_t record[24] = {0};
    put_le(record + 2, 0x80000000u, 4);                      /* lat, lon: absent */
    put_le(record + 6, 0x80000000u, 4);
    put_le(record + 10, 0xFFFF, 2);                          /* altitude absent */
    record[12] = record[13] = 0xFF;                          /* altitude source, accuracy absent */
    put_le(record + 14, (uint64_t)(speed_mps * 100 + 0.5), 2);
    put_le(record + 16, 0xFFFF, 2);                          /* heading absent */
    put_le(record + 18, (uint64_t)(distance_m * 100 + 0.5), 4);
    record[22] = hr_bpm;
    record[23] = 0xFF;                                       /* cadence absent; power follows below */
    int64_t mono = now_us(CLOCK_MONOTONIC), offset = now_us(CLOCK_REALTIME) - mono;
    Row *row = &ring[next_n % RING];
    uint8_t *at = row->bytes;
    *at++ = 0x9A;                                            /* array of ten */
    *at++ = 1;                                               /* motion.1 */
    *at++ = 1;                                               /* it numbers itself */
    at += pack_str(at, device);
    at += pack_u64(at, boot);
    at += pack_u64(at, seq++);
    at += pack_u64(at, (uint64_t)mono);
    at += pack_i64(at, offset);
    *at++ = 2;                                               /* clock: network */
    at += pack_str(at, subject);
    *at++ = 0xC4;
    *at++ = 26;
    memcpy(at, record, 24);
    at[24] = at[25] = 0xFF;                                  /* power absent */
    row->length = (uint16_t)(at + 26 - row->bytes);
    row->done = 0;
    next_n++;
}

static void settle(uint64_t first, uint64_t last, int stored)
{
    if (first < first_n) first = first_n;
    for (uint64_t n = first; n <= last && n < next_n; n++) {
        if (!ring[n % RING].done && !stored) refused++;
        ring[n % RING].done = 1;
    }
    while (first_n < next_n && ring[first_n % RING].done) first_n++;
    if (unsent_n < first_n) unsent_n = first_n;
}

static void on_ack(const uint8_t *body, size_t length)
{
    Reader r = {body, body + length, 0};
    if (read_array(&r) != 4 || read_uint(&r) != 1 || read_uint(&r) != epoch || r.bad) return;
    for (int kind = 0; kind < 2; kind++) {
        uint32_t count = read_array(&r);
        for (uint32_t i = 0; i < count && !r.bad; i++) {
            uint32_t fields = read_array(&r);
            uint64_t first = read_uint(&r), last = read_uint(&r);
            if (kind == 1) skip_str(&r);
            if (!r.bad && fields == 2u + (uint32_t)kind && first <= last) settle(first, last, kind == 0);
        }
    }
    heard_us = now_us(CLOCK_MONOTONIC);
    backoff_us = 2000000;
    probe_at_us = 0;
}

/* --- MQTT 3.1.1 ------------------------------------------------------------------------------------------------------------------ */

static void drop_link(void)
{
    if (sock >= 0) close(sock);
    sock = -1;
    in_length = 0;
}

static int write_all(const uint8_t *data, size_t length)
{
    while (length) {
        ssize_t n = send(sock, data, length, MSG_NOSIGNAL);
        if (n <= 0) { drop_link(); return 0; }
        data += n;
        length -= (size_t)n;
    }
    written_us = now_us(CLOCK_MONOTONIC);
    return 1;
}

static size_t put_text(uint8_t *at, const char *text)
{
    size_t length = strlen(text);
    at[0] = (uint8_t)(length >> 8);
    at[1] = (uint8_t)length;
    memcpy(at + 2, text, length);
    return 2 + length;
}

static int send_packet(uint8_t head, const uint8_t *body, size_t length)
{
    uint8_t start[5] = {head};
    int at = 1;
    size_t left = length;
    do {
        start[at] = left & 127;
        left >>= 7;
        if (left) start[at] |= 128;
        at++;
    } while (left);
    return write_all(start, (size_t)at) && write_all(body, length);
}

static void send_rows(uint64_t first, uint64_t count)
{
    static uint8_t body[BUF];
    size_t at = put_text(body, up_topic);
    packet_id = packet_id == 0xFFFF ? 1 : packet_id + 1;
    body[at++] = (uint8_t)(packet_id >> 8);
    body[at++] = (uint8_t)packet_id;
    uint8_t *head = body + at;
    head[0] = 0xB1;
    head[1] = (uint8_t)count;
    put_le(head + 2, first, 6);
    put_le(head + 8, epoch, 8);
    put_le(head + 16, crc32_of(head, 16), 4);
    at += 20;
    for (uint64_t n = first; n < first + count; n++) {
        const Row *row = &ring[n % RING];
        put_le(body + at, row->length, 2);
        memcpy(body + at + 2, row->bytes, row->length);
        at += 2u + row->length;
    }
    send_packet(0x32, body, at);                             /* PUBLISH, QoS 1 */
}

/* rows that follow `first` without a hole, at most a bundle */
static uint64_t run_from(uint64_t first)
{
    uint64_t count = 0;
    while (count < BUNDLE_ROWS && first + count < next_n && !ring[(first + count) % RING].done) count++;
    return count;
}

static void on_packet(uint8_t head, const uint8_t *body, size_t length)
{
    if (head >> 4 != 3 || length < 2) return;                /* PUBACK, PINGRESP: a PUBACK proves nothing */
    size_t topic = (size_t)body[0] << 8 | body[1];
    size_t skip = 2 + topic + (head & 6 ? 2 : 0);
    if (skip > length) return;
    if (head & 2) {
        uint8_t id[2] = {body[2 + topic], body[3 + topic]};
        send_packet(0x40, id, 2);
    }
    if (topic == strlen(ack_topic) && !memcmp(body + 2, ack_topic, topic)) on_ack(body + skip, length - skip);
}

static void read_link(void)
{
    ssize_t n = recv(sock, in + in_length, BUF - in_length, 0);
    if (n <= 0) { drop_link(); return; }
    in_length += (size_t)n;
    for (;;) {
        size_t at = 1, length = 0;
        int shift = 0;
        do {
            if (at >= in_length || shift > 21) { if (shift > 21) drop_link(); return; }
            length |= (size_t)(in[at] & 127) << shift;
            shift += 7;
        } while (in[at++] & 128);
        if (length > BUF - 5) { drop_link(); return; }
        if (at + length > in_length) return;
        on_packet(in[0], in + at, length);
        if (sock < 0) return;
        memmove(in, in + at + length, in_length -= at + length);
    }
}

static int expect(uint8_t head, int result_at)               /* the next packet, read bytewise: CONNACK and SUBACK are short */
{
    uint8_t packet[8];
    size_t have = 0, want = 2;
    while (have < want) {
        ssize_t n = recv(sock, packet + have, want - have, 0);
        if (n <= 0) return 0;
        have += (size_t)n;
        if (have == 2) want = 2u + (packet[1] & 7);
    }
    return packet[0] == head && packet[result_at] < 0x80 && (head != 0x20 || packet[3] == 0);
}

static int open_link(const char *host, const char *port, const char *password)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(host, port, &hints, &found)) return 0;
    sock = socket(found->ai_family, SOCK_STREAM, 0);
    struct timeval limit = {.tv_sec = 10};
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    int up = connect(sock, found->ai_addr, found->ai_addrlen) == 0;
    freeaddrinfo(found);
    uint8_t body[512];
    size_t at = put_text(body, "MQTT");
    body[at++] = 4;
    body[at++] = 0xC2;                                       /* user name, password, clean session */
    body[at++] = 0;
    body[at++] = 30;                                         /* keep alive, s */
    at += put_text(body + at, node);                         /* client id = user name */
    at += put_text(body + at, node);
    at += put_text(body + at, password);
    up = up && send_packet(0x10, body, at) && expect(0x20, 3);
    body[0] = 0;
    body[1] = 1;
    at = 2 + put_text(body + 2, ack_topic);
    body[at++] = 1;                                          /* QoS 1 */
    up = up && send_packet(0x82, body, at) && expect(0x90, 4);
    if (!up) { drop_link(); return 0; }
    unsent_n = first_n;                                      /* what is owed goes again: as a probe first */
    heard_us = 0;
    probe_at_us = 0;
    backoff_us = 2000000;
    return 1;
}

/* Send what may go now: everything new within the window while acks come, one probe per back-off while they do not. */
static void send_due(int64_t mono)
{
    int silent = first_n < unsent_n && mono - heard_us > 3000000;
    if (!silent && heard_us == 0 && first_n < next_n) silent = 1;
    if (silent) {
        if (mono >= probe_at_us) {
            if (probe_at_us) backoff_us = backoff_us * 2 > 30000000 ? 30000000 : backoff_us * 2;
            probe_at_us = mono + backoff_us * (90 + (int64_t)(random_u64() % 21)) / 100;
            uint64_t count = run_from(first_n);
            if (unsent_n < first_n + count) unsent_n = first_n + count;
            send_rows(first_n, count);
        }
        return;
    }
    while (sock >= 0 && unsent_n < next_n && unsent_n - first_n < WINDOW) {
        uint64_t count = run_from(unsent_n);
        if (!count) { unsent_n++; continue; }
        if (first_n == unsent_n) heard_us = mono;            /* nothing was owed: the silence starts here */
        send_rows(unsent_n, count);
        unsent_n += count;
    }
}

int main(int argc, char **argv)
{
    if (argc < 5 || !strchr(argv[3], '/') || strlen(argv[3]) > 65) {
        fprintf(stderr, "usage: device HOST PORT TENANT/NODE PASSWORD [SECONDS]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    snprintf(node, sizeof node, "%s", argv[3]);
    snprintf(up_topic, sizeof up_topic, "pl/1/%s/up", node);
    snprintf(ack_topic, sizeof ack_topic, "pl/1/%s/ack", node);
    const char *device = strchr(argv[3], '/') + 1;
    epoch = random_u64();
    boot = random_u64();
    int64_t start = now_us(CLOCK_MONOTONIC), next_sample = start, retry_at = 0, retry_us = 1000000;
    int64_t end = argc > 5 ? start + (int64_t)(atof(argv[5]) * 1e6) : INT64_MAX;
    double distance = 0;
    for (;;) {
        int64_t mono = now_us(CLOCK_MONOTONIC);
        if (mono >= end && first_n == next_n) break;         /* the time is up and everything is acknowledged */
        if (mono >= end + 30000000) break;
        if (mono >= next_sample && mono < end) {
            distance += 3.0;
            take_sample(device, node, 3.0, distance, (uint8_t)(120 + seq % 40));
            next_sample += 1000000;
        }
        if (sock < 0 && mono >= retry_at) {
            if (open_link(argv[1], argv[2], argv[4])) {
                retry_us = 1000000;
            } else {
                retry_at = mono + retry_us * (90 + (int64_t)(random_u64() % 21)) / 100;
                retry_us = retry_us * 2 > 30000000 ? 30000000 : retry_us * 2;
            }
        }
        if (sock >= 0) send_due(mono);
        if (sock >= 0 && mono - written_us > 15000000) send_packet(0xC0, NULL, 0);   /* PINGREQ */
        struct pollfd waits = {.fd = sock, .events = POLLIN};
        if (poll(&waits, sock >= 0 ? 1 : 0, 50) > 0) read_link();
    }
    printf("%llu rows, %llu owed, %llu refused, %llu rejected\n", (unsigned long long)next_n, (unsigned long long)(next_n - first_n),
           (unsigned long long)refused, (unsigned long long)rejected);
    drop_link();
    return first_n == next_n ? 0 : 1;
}
