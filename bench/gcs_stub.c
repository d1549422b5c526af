// A Cloud Storage (JSON API) that makes its answers up, to measure clients against: see stub.h.
#define OWN_COUNTS "list", "get", "patch", "delete", "rewrite", "batch", "calls in batches"
#define BODY_TYPE "application/json; charset=UTF-8"
#define SLOW_DOWN "429 Too Many Requests"
#define HEADERS "X-GUploader-UploadID: AOCedOGx4vN7wXzB2cLdFgHjPtUiOeAoT5n6E3rSfVyWkQxM\r\n" \
    "Vary: Origin\r\nVary: X-Origin\r\nCache-Control: private, max-age=0\r\n" \
    "Server: UploadServer\r\nDate: %s GMT\r\n"
#include "stub.h"
#include <ctype.h>
#define API "storage/v1/b/"
#define BATCH "batch/storage/v1"
#define BOUNDARY "batch_6yKMvWbpX0kGqZrQ7sTn1LdHfJcAeUiO"
#define PART "--" BOUNDARY "\r\nContent-Type: application/http\r\n"
#define INNER "Content-Type: " BODY_TYPE "\r\nDate: Thu, 26 Nov 2026 10:00:00 GMT\r\n" \
    "Expires: Thu, 26 Nov 2026 10:00:00 GMT\r\nCache-Control: private, max-age=0\r\n"
#define BUCKET "{\"kind\":\"storage#bucket\",\"id\":\"bench\",\"name\":\"bench\"," \
    "\"projectNumber\":\"123456789012\",\"generation\":\"1763978400000000\",\"metageneration\":" \
    "\"1\",\"location\":\"US\",\"locationType\":\"multi-region\",\"storageClass\":\"STANDARD\"," \
    "\"etag\":\"CAE=\",\"timeCreated\":\"2026-11-24T10:00:00.000Z\",\"updated\":" \
    "\"2026-11-24T10:00:00.000Z\",\"softDeletePolicy\":{\"retentionDurationSeconds\":\"604800\"," \
    "\"effectiveTime\":\"2026-11-24T10:00:00.000Z\"},\"iamConfiguration\":{" \
    "\"uniformBucketLevelAccess\":{\"enabled\":true},\"publicAccessPrevention\":\"inherited\"}}"
#define LAYOUT "{\"kind\":\"storage#storageLayout\",\"bucket\":\"bench\",\"location\":\"US\"," \
    "\"locationType\":\"multi-region\",\"hierarchicalNamespace\":{\"enabled\":false}}"
static const long FIRST = 1764065588000000;  // the generation of the first object
enum { LIST = OWN, GET, PATCH, DELETE, REWRITE, BATCHES, CALLS };

// What is wanted of resources: all, or what ``fields`` names.
enum { HOLD = 18, FIELDS = 20 };
static const char *const FIELD[FIELDS] = {
    "kind", "id", "selfLink", "mediaLink", "name", "bucket", "generation", "metageneration",
    "contentType", "storageClass", "size", "md5Hash", "cacheControl", "crc32c", "etag",
    "timeCreated", "updated", "timeStorageClassUpdated", "temporaryHold", "metadata"};
typedef struct { bool of[FIELDS]; } Wanted;
static bool has_word(const char *text, const char *word, size_t width) {
    for (const char *at = text; (at = strstr(at, word)); at += width)
        if ((at == text || !isalnum(at[-1])) && !isalnum(at[width])) return true;
    return false;
}
static Wanted wanted(const Request *r) {
    char fields[KEY];
    Wanted w;
    bool all = !asked(r, "fields", fields) || strchr(fields, '*');
    for (int i = 0; i < FIELDS; i++) w.of[i] = all || has_word(fields, FIELD[i], strlen(FIELD[i]));
    return w;
}
static void md5(char *at, long i) { hex(at, i, 16), hex(at + 16, ~i, 6); }
static void crc32c(char *at, long i) { hex(at, i << 20, 6); }
static void quoted(Buffer *b, long i) {
    char text[NAME + 1] = "";
    name(text, i);
    for (const char *at = text; *at; at++) *at == '/' ? say(b, "%2F") : put(b, at, 1);
}
static void value(Buffer *b, int field, long i, bool patched) {
    switch (field) {
        case 0: say(b, "\"storage#object\""); break;
        case 1: say(b, "\"bench/"), tell(b, name, NAME, i), SAY(b, "/%ld\"", FIRST + i); break;
        case 2: say(b, "\"https://www.googleapis.com/" API "bench/o/"), quoted(b, i), say(b, "\"");
            break;
        case 3: say(b, "\"https://storage.googleapis.com/download/" API "bench/o/"), quoted(b, i);
            SAY(b, "?generation=%ld&alt=media\"", FIRST + i); break;
        case 4: say(b, "\""), tell(b, name, NAME, i), say(b, "\""); break;
        case 5: say(b, "\"bench\""); break;
        case 6: SAY(b, "\"%ld\"", FIRST + i); break;
        case 7: say(b, patched ? "\"2\"" : "\"1\""); break;
        case 8: say(b, "\"application/json\""); break;
        case 9: say(b, "\"STANDARD\""); break;
        case 10: say(b, "\""), tell(b, size, 7, i), say(b, "\""); break;
        case 11: say(b, "\""), tell(b, md5, 22, i), say(b, "==\""); break;
        case 12: say(b, "\"max-age=3600\""); break;
        case 13: say(b, "\""), tell(b, crc32c, 6, i), say(b, "==\""); break;
        case 14: say(b, "\"CJDs"), tell(b, crc32c, 6, i), say(b, "CEAE=\""); break;
        case HOLD: say(b, "true"); break;
        case 19: say(b, "{\"owner\":\"data-platform\",\"batch\":\"2026-11-25\"}"); break;
        default: say(b, "\"2026-11-24T"), tell(b, modified, 8, i), say(b, ".123Z\"");
    }
}
static void resource(Buffer *b, const Wanted *w, long i, bool patched, bool held) {
    char before = '{';
    for (int field = 0; field < FIELDS; field++)
        if (w->of[field] && (field != HOLD || held)) {
            SAY(b, "%c\"%s\":", before, FIELD[field]);
            value(b, field, i, patched), before = ',';
        }
    say(b, before == '{' ? "{}" : "}");
}

// Answers.
static const char *list(Buffer *out, const Request *r) {
    char prefix[KEY], text[KEY];
    Wanted w = wanted(r);
    long at = 0, end = objects, page = asked(r, "maxResults", text) ? atol(text) : PAGE;
    if (asked(r, "prefix", prefix))
        at = position(prefix, strlen(prefix), false), end = position(prefix, strlen(prefix), true);
    if (asked(r, "startOffset", text)) at = fmax(position(text, NAME + 1, false), at);
    if (asked(r, "endOffset", text)) end = fmin(position(text, NAME + 1, false), end);
    if (asked(r, "pageToken", text)) at = fmax(position(text, NAME + 1, true), at);
    if (asked(r, "delimiter", text)) {  // nothing but what is named by all of the prefix
        if (end - at > 1 || number(prefix) < 0) return "501 Not Implemented";
    }
    long stop = fmin(at + (page < PAGE ? page : PAGE), end);
    say(out, "{\"kind\":\"storage#objects\"");
    if (stop < end)
        say(out, ",\"nextPageToken\":\""), tell(out, name, NAME, stop - 1), say(out, "\"");
    for (long i = at; i < stop; i++)
        say(out, i > at ? "," : ",\"items\":["), resource(out, &w, i, false, false);
    return say(out, at < stop ? "]}" : "}"), "200 OK";
}
static const char *of_object(Buffer *out, const Request *r, const char *path, int *kind) {
    char key[KEY], text[KEY];
    size_t width = strcspn(path, "/");
    decode(key, path, width);
    long i = number(key);
    bool rewrites = !strncmp(path + width, "/rewriteTo/", 11), patches = *r->method == 'P';
    *kind = rewrites ? REWRITE : patches ? PATCH : *r->method == 'D' ? DELETE : GET;
    if (i < 0) return "404 Not Found";
    if ((asked(r, "ifGenerationMatch", text) && atol(text) != FIRST + i) ||
        (asked(r, "ifMetagenerationMatch", text) && atol(text) != 1))
        return "412 Precondition Failed";
    if (asked(r, "generation", text) && atol(text) != FIRST + i) return "404 Not Found";
    if (*kind == DELETE) return "204 No Content";
    if (rewrites) SAY(out, "{\"kind\":\"storage#rewriteResponse\",\"totalBytesRewritten\":\"1\","
                      "\"objectSize\":\"1\",\"done\":true,\"resource\":");
    Wanted w = wanted(r);
    resource(out, &w, i, patches, patches && memmem(r->body, r->size, "true", 4));
    return say(out, rewrites ? "}" : ""), "200 OK";
}
static const char *call(Buffer *out, const Request *r, int *kind) {
    const char *at = r->path + strlen(API);
    *kind = OTHER;
    if (strncmp(r->path, API, strlen(API))) return "501 Not Implemented";
    at += strcspn(at, "/");
    if (!strncmp(at, "/o/", 3)) return of_object(out, r, at + 3, kind);
    if (*r->method != 'G') return "501 Not Implemented";
    if (!strcmp(at, "/o")) return *kind = LIST, list(out, r);
    if (!*at || !strcmp(at, "/storageLayout")) return say(out, *at ? LAYOUT : BUCKET), "200 OK";
    return "501 Not Implemented";
}
static const char *together(Buffer *head, Buffer *out, const Request *r) {
    static Buffer inner;
    char boundary[128] = "--", *from, *to, *at = (char *)r->body, *end = at + r->size;
    const char *type = header(r->headers, "content-type");
    const char *given = type ? strstr(type, "boundary=") : NULL;
    if (!given) return "400 Bad Request";
    given += 9 + (given[9] == '"');
    strncat(boundary, given, fmin(strcspn(given, "\"\r;"), 100));
    for (from = to = at; from < end; from++) if (*from != '\r') *to++ = *from;
    for (*to = 0; (at = strstr(at, boundary)) && at[strlen(boundary)] == '\n';) {
        const char *id = header(at += strlen(boundary) + 1, "content-id");
        Request part = {0};
        char *line = strstr(at, "\n\n"), *query, *stop;
        if (!line || !(part.path = strstr(line, API))) return "400 Bad Request";
        stop = strchr(part.path, ' '), part.method = line + 2, *stop++ = 0;
        part.query = "", part.headers = stop + strcspn(stop, "\n") + 1;
        if ((query = strchr(part.path, '?'))) *query = 0, part.query = query + 1;
        if (!(part.body = strstr(stop, "\n\n"))) return "400 Bad Request";
        at = strstr(part.body, boundary), part.size = at ? at - part.body : 0;
        int kind;
        inner.size = 0;
        const char *status = call(&inner, &part, &kind);
        if (*status > '3') refuse(&inner, status);
        counts[kind]++, counts[CALLS]++;
        say(out, PART);
        if (id) SAY(out, "Content-ID: <response-%.*s\r\n", (int)strcspn(id + 1, "\n"), id + 1);
        SAY(out, "\r\nHTTP/1.1 %s\r\n" INNER "Content-Length: %zu\r\n\r\n", status, inner.size);
        put(out, inner.data, inner.size), say(out, "\r\n");
        if (!at) return "400 Bad Request";
    }
    say(head, "Content-Type: multipart/mixed; boundary=" BOUNDARY "\r\n");
    return say(out, "--" BOUNDARY "--\r\n"), "200 OK";
}
static const char *decide(Buffer *head, Buffer *body, const Request *r, int *kind) {
    if (strcmp(r->path, BATCH) || *r->method != 'P') return call(body, r, kind);
    return *kind = BATCHES, together(head, body, r);
}
static void refuse(Buffer *body, const char *status) {
    const char *reason = *status == '5' ? "backendError" : !strncmp(status, "404", 3) ? "notFound"
        : !strncmp(status, "412", 3) ? "conditionNotMet" : !strncmp(status, "429", 3)
        ? "rateLimitExceeded" : "invalid";
    body->size = 0;
    SAY(body, "{\"error\":{\"code\":%.3s,\"message\":\"%s\",\"errors\":[{\"message\":\"%s\","
        "\"domain\":\"global\",\"reason\":\"%s\"}]}}", status, status + 4, status + 4, reason);
}
