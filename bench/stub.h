// What the servers here that make their answers up have in common; one thread each.
//
//   NAME_stub PORT OBJECTS LATENCY_MS REQUESTS_A_SECOND [PEM]
//
// 0 requests a second: as many as come; else what is above, and above a tenth of a second's at
// once, is refused. PEM: key and certificate, for TLS. All buckets hold the same objects; what
// would change one is answered as if it had been done. GET /-/counts tells what was asked since
// the last GET /-/reset. No client sends a request before it has its answer.
//
// Who includes this has defined what its service always says: OWN_COUNTS (names of what it counts,
// from OWN on), HEADERS (with a %s for the date), BODY_TYPE, SLOW_DOWN (the status of what is above
// the rate); and defines ``decide`` and ``refuse``.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <math.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <time.h>
#define SAY(buffer, ...) ((buffer)->size += sprintf(grow(buffer, 4096), __VA_ARGS__))
enum { NAME = 60, PAGE = 1000, KEY = 1100 };
enum { OTHER, REFUSED, CONNECTIONS, MOST_IN_FLIGHT, OWN };
static const char *const COUNTED[] = {"other", "refused", "connections", "most in flight",
                                      OWN_COUNTS};
enum { COUNTS = sizeof COUNTED / sizeof *COUNTED };
typedef struct { char *data; size_t size, room; } Buffer;
typedef struct { char *method, *path; const char *query, *headers, *body; size_t size; } Request;
typedef struct Connection {
    BIO *io;  // NULL: it is closed, but an answer still waits for its time
    Buffer in, out;
    size_t sent;
    double due;
    bool waits;
    STAILQ_ENTRY(Connection) next;
} Connection;
static STAILQ_HEAD(, Connection) waiting = STAILQ_HEAD_INITIALIZER(waiting);
static long objects, epoll, counts[COUNTS], in_flight;
static double latency, rate, tokens, filled;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}
static inline char *grow(Buffer *b, size_t more) {  // where so many bytes more may be written
    if (b->size + more > b->room)
        if (!(b->data = realloc(b->data, b->room = 2 * (b->size + more)))) abort();
    return b->data + b->size;
}
static inline void put(Buffer *b, const char *text, size_t size) {
    memcpy(grow(b, size), text, size), b->size += size;
}
static inline void say(Buffer *b, const char *text) { put(b, text, strlen(text)); }

// The objects: all there is to know of one follows from its number, in the order of their names.
static void digits(char *at, unsigned long value, int width) {
    while (width--) at[width] = '0' + value % 10, value /= 10;
}
static void hex(char *at, unsigned long seed, int width) {
    seed = (seed + 1) * 0x9e3779b97f4a7c15, seed = (seed ^ seed >> 29) * 0xbf58476d1ce4e5b9;
    for (seed ^= seed >> 32; width--; seed >>= 4) at[width] = "0123456789abcdef"[seed & 15];
}
static void name(char *at, long i) {
    memcpy(at, "logs/2026/11/25/node-0000/000000000000-0123456789abc.json.gz", NAME);
    digits(at + 21, i / 10000, 4), digits(at + 26, i, 12), hex(at + 39, i, 13);
}
static void size(char *at, long i) { digits(at, 1000000 + i * 7919 % 1000000, 7); }
static void modified(char *at, long i) {  // within an hour
    memcpy(at, "10:00:00", 8), digits(at + 3, i / 60 % 60, 2), digits(at + 6, i % 60, 2);
}
static inline void tell(Buffer *b, void (*what)(char *, long), int width, long i) {
    what(grow(b, width), i), b->size += width;
}
static long position(const char *text, size_t width, bool past) {
    long low = 0, high = objects;  // of the first name whose beginning is not below (or above) it
    while (low < high) {
        char at[NAME + 1] = "";
        long middle = (low + high) / 2;
        name(at, middle);
        if (strncmp(at, text, width) < past) low = middle + 1;
        else high = middle;
    }
    return low;
}
static long number(const char *key) {  // -1: no object is called so
    char text[NAME + 1] = "";
    long i = strlen(key) == NAME ? atol(key + 26) : -1;
    if (i >= 0 && i < objects) name(text, i);
    return *text && !strcmp(text, key) ? i : -1;
}

// Requests.
static void decode(char to[KEY], const char *from, size_t length) {
    for (const char *stop = from + length, *end = to + KEY - 1; from < stop && to < end; from++) {
        bool coded = from[0] == '%' && from + 2 < stop;
        *to++ = coded ? strtol((char[]){from[1], from[2], 0}, NULL, 16) : *from;
        if (coded) from += 2;
    }
    *to = 0;
}
static bool asked(const Request *r, const char *parameter, char value[KEY]) {
    size_t width = strlen(parameter), length;
    if (value) *value = 0;
    for (const char *at = r->query; *at; at += length + (at[length] == '&')) {
        length = strcspn(at, "&");
        if (strncmp(at, parameter, width) || (length > width && at[width] != '=')) continue;
        if (value && length > width) decode(value, at + width + 1, length - width - 1);
        return !value || *value;
    }
    return false;
}
static const char *header(const char *headers, const char *wanted) {
    size_t width = strlen(wanted);
    for (const char *at = headers; *at > '\r'; at += strcspn(at, "\n"), at += *at == '\n')
        if (!strncasecmp(at, wanted, width) && at[width] == ':')
            return at + width + 1 + strspn(at + width + 1, " ");
    return NULL;
}

// Answers: a status, and what is put into the body or the head.
static const char *decide(Buffer *head, Buffer *body, const Request *r, int *kind);
static void refuse(Buffer *body, const char *status);
static const char *control(Buffer *body, const Request *r) {
    if (!strcmp(r->path, "-/reset")) memset(counts, 0, sizeof counts);
    for (int i = 0; i < COUNTS; i++)
        SAY(body, "%c\"%s\":%ld", i ? ',' : '{', COUNTED[i], counts[i]);
    return say(body, "}\n"), "200 OK";
}
static void answer(Connection *c, const Request *r) {
    static Buffer head, body;
    const char *status = SLOW_DOWN;
    char date[32];
    bool of_control = !strncmp(r->path, "-/", 2);
    int kind = REFUSED;
    double came = now();
    tokens = fmin(rate / 10, tokens + (came - filled) * rate);
    filled = came, head.size = body.size = 0;
    if (of_control) status = control(&body, r);
    else if (!rate || tokens >= 1) status = decide(&head, &body, r, &kind), tokens--;
    counts[kind] += !of_control;
    if (*status > '3') refuse(&body, status);
    if (*r->method == 'H') body.size = 0;
    strftime(date, sizeof date, "%a, %d %b %Y %T", gmtime(&(time_t){time(NULL)}));
    SAY(&c->out, "HTTP/1.1 %s\r\n" HEADERS, status, date);
    if (!head.size && body.size) say(&head, "Content-Type: " BODY_TYPE "\r\n");
    if (*r->method != 'H' || !head.size) SAY(&head, "Content-Length: %zu\r\n", body.size);
    put(&c->out, head.data, head.size), say(&c->out, "\r\n"), put(&c->out, body.data, body.size);
    c->due = latency && !of_control ? came + latency : 0;
}

// Connections.
static bool gone(Connection *c) {  // whether it is, now that no bytes could be moved
    if (BIO_should_retry(c->io)) return false;
    BIO_free_all(c->io), ERR_clear_error(), free(c->in.data), free(c->out.data), c->io = NULL;
    if (!c->waits) free(c);
    return true;
}
static bool flush(Connection *c) {  // false: it is gone
    for (int n; c->sent < c->out.size; c->sent += n) {
        n = BIO_write(c->io, c->out.data + c->sent, c->out.size - c->sent);
        if (n <= 0) return !gone(c);
    }
    return c->sent = c->out.size = 0, true;
}
static bool parse(Connection *c, Request *r) {  // false: it is not whole
    *grow(&c->in, 1) = 0;
    char *data = c->in.data, *stop = strstr(data, "\r\n\r\n"), *query;
    if (!stop) return false;
    r->method = data, r->headers = strstr(data, "\r\n") + 2, r->body = stop + 4;
    const char *length = header(r->headers, "content-length");
    r->size = length ? atol(length) : 0;
    if (c->in.size < r->body - data + r->size) return false;
    r->path = strchr(data, ' ') + 2, *strpbrk(r->path, " \r") = 0;
    if ((query = strchr(r->path, '?'))) *query = 0;
    return r->query = query ? query + 1 : "", true;
}
static void receive(Connection *c) {
    static Request r;
    if (!c->waits && !flush(c)) return;
    for (int n; (n = BIO_read(c->io, grow(&c->in, 65536), 65536)) > 0;) c->in.size += n;
    if (gone(c) || c->waits || !parse(c, &r)) return;
    answer(c, &r), c->in.size = 0;
    if (!c->due) return (void)flush(c);
    if (++in_flight > counts[MOST_IN_FLIGHT]) counts[MOST_IN_FLIGHT] = in_flight;
    STAILQ_INSERT_TAIL(&waiting, c, next);
    c->waits = true;
}
static void take(int listener, SSL_CTX *tls) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0; counts[CONNECTIONS]++) {
        Connection *c = calloc(1, sizeof *c);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        c->io = BIO_new_socket(fd, BIO_CLOSE);
        if (tls) c->io = BIO_push(BIO_new_ssl(tls, false), c->io);
        struct epoll_event e = {EPOLLIN | EPOLLOUT | EPOLLET, {c}};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
    }
}
int main(int count, char **words) {
    if (count < 5) return 2;
    struct sockaddr_in at = {AF_INET, htons(atoi(words[1])), {htonl(INADDR_LOOPBACK)}, {0}};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SSL_CTX *tls = count > 5 ? SSL_CTX_new(TLS_server_method()) : NULL;
    objects = atol(words[2]), latency = atof(words[3]) / 1000, rate = atof(words[4]);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096) ||
        (tls && (SSL_CTX_use_certificate_chain_file(tls, words[5]) != 1 ||
                 SSL_CTX_use_PrivateKey_file(tls, words[5], SSL_FILETYPE_PEM) != 1))) return 1;
    signal(SIGPIPE, SIG_IGN), epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN});
    for (struct epoll_event events[256];;) {
        double wait = STAILQ_EMPTY(&waiting) ? 1 : fmax(STAILQ_FIRST(&waiting)->due - now(), 0);
        struct timespec limit = {wait, fmod(wait, 1) * 1e9};
        for (int i = 0, n = epoll_pwait2(epoll, events, 256, &limit, NULL); i < n; i++) {
            if (events[i].data.ptr) receive(events[i].data.ptr);
            else take(listener, tls);
        }
        for (Connection *c; (c = STAILQ_FIRST(&waiting)) && c->due <= now();) {
            STAILQ_REMOVE_HEAD(&waiting, next);
            c->waits = false, in_flight--;
            if (!c->io) free(c);
            else flush(c);
        }
    }
}
