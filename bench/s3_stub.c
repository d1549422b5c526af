// An S3 server that makes its answers up, to measure clients against: see stub.h.
#define OWN_COUNTS "list", "head", "delete", "copy", "keys deleted"
#define BODY_TYPE "application/xml"
#define SLOW_DOWN "503 SlowDown"
#define HEADERS "x-amz-id-2: 8Ys1mKqR4vN7wXzB2cLdFgHjPtUiOeAoT5n6E3rSfVyWkQxMhZbJaCuVfRyW=\r\n" \
    "Server: AmazonS3\r\nx-amz-request-id: 4Z5KQ7M2X8PBRVN1\r\nDate: %s GMT\r\n"
#include "stub.h"
#define XML(root) "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<" root \
    " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
#define COPIED XML("CopyObjectResult") "<LastModified>2026-11-24T%s.000Z</LastModified>" \
    "<ETag>&quot;%s&quot;</ETag></CopyObjectResult>"
#define METADATA "ETag: \"%s\"\r\nLast-Modified: Tue, 24 Nov 2026 %s GMT\r\n" \
    "Content-Length: %s\r\nContent-Type: application/json\r\nCache-Control: max-age=3600\r\n" \
    "Accept-Ranges: bytes\r\nx-amz-meta-owner: data-platform\r\nx-amz-meta-batch: 2026-11-25\r\n"
enum { LIST = OWN, HEAD, DELETE, COPY, KEYS };
static bool *moved;  // whether an object was copied to another class, which is all that is kept
static const struct { const char *name, *status, *body; } SUBRESOURCES[] = {
    {"versioning", "200 OK", XML("VersioningConfiguration") "</VersioningConfiguration>"},
    {"location", "200 OK", XML("LocationConstraint") "</LocationConstraint>"},
    {"object-lock", "404 ObjectLockConfigurationNotFoundError", ""},
    {"ownershipControls", "200 OK", XML("OwnershipControls") "<Rule><ObjectOwnership>"
     "BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>"},
};
static void etag(char *at, long i) { hex(at, ~i, 16), hex(at + 16, i << 20, 16); }
static const char *list(Buffer *out, const Request *r) {
    char prefix[KEY], text[KEY];
    long at = 0, end = objects, page = asked(r, "max-keys", text) ? atol(text) : PAGE;
    if (!asked(r, "list-type", NULL) || asked(r, "delimiter", text)) return "501 NotImplemented";
    if (asked(r, "prefix", prefix))
        at = position(prefix, strlen(prefix), false), end = position(prefix, strlen(prefix), true);
    if (asked(r, "continuation-token", text) || asked(r, "start-after", text))
        at = fmin(fmax(position(text, NAME + 1, true), at), end);
    long stop = fmin(at + page, end);
    SAY(out, XML("ListBucketResult") "<Name>bench</Name><Prefix>%s</Prefix>", prefix);
    if (stop < end) {
        say(out, "<NextContinuationToken>"), tell(out, name, NAME, stop - 1);
        say(out, "</NextContinuationToken>");
    }
    SAY(out, "<KeyCount>%ld</KeyCount><MaxKeys>%ld</MaxKeys><EncodingType>url</EncodingType>"
        "<IsTruncated>%s</IsTruncated>", stop - at, page, stop < end ? "true" : "false");
    for (; at < stop; at++) {
        say(out, "<Contents><Key>"), tell(out, name, NAME, at);
        say(out, "</Key><LastModified>2026-11-24T"), tell(out, modified, 8, at);
        say(out, ".000Z</LastModified><ETag>&quot;"), tell(out, etag, 32, at);
        say(out, "&quot;</ETag><Size>"), tell(out, size, 7, at);
        say(out, "</Size><StorageClass>STANDARD</StorageClass></Contents>");
    }
    return say(out, "</ListBucketResult>"), "200 OK";
}
static const char *delete_keys(Buffer *out, const Request *r) {
    const char *at = r->body, *end = at + r->size;
    bool quiet = memmem(at, r->size, "<Quiet>true", 11);
    say(out, XML("DeleteResult"));
    for (; (at = memmem(at, end - at, "<Key>", 5)); at++, counts[KEYS]++)
        if (!quiet) SAY(out, "<Deleted>%.*s</Deleted>", (int)strcspn(at + 5, "<") + 11, at);
    return say(out, "</DeleteResult>"), "200 OK";
}
static const char *head_or_copy(Buffer *head, Buffer *body, const Request *r, const char *key,
                                const char *source) {
    char from[KEY], tag[33] = "", time[9] = "", length[8] = "";
    if (source) source += *source == '/', decode(from, source, strcspn(source, "?\r"));
    long i = number(source ? from + strcspn(from, "/") + 1 : key);
    if (i < 0) return "404 NoSuchKey";
    etag(tag, i), modified(time, i), size(length, i);
    const char *match = header(r->headers, "x-amz-copy-source-if-match");
    if (match && strncmp(match + (*match == '"'), tag, 32)) return "412 PreconditionFailed";
    if (!moved) moved = calloc(objects, sizeof *moved);
    if (source) {
        const char *class = header(r->headers, "x-amz-storage-class");
        moved[i] = class && strncmp(class, "NEARLINE", 8) == 0;
        return SAY(body, COPIED, time, tag), "200 OK";
    }
    SAY(head, METADATA, tag, time, length);
    if (moved[i]) say(head, "x-amz-storage-class: NEARLINE\r\n");
    return "200 OK";
}
static const char *decide(Buffer *head, Buffer *body, const Request *r, int *kind) {
    const char *source = header(r->headers, "x-amz-copy-source"), *slash = strchr(r->path, '/');
    char key[KEY] = "";
    if (slash) decode(key, slash + 1, strlen(slash + 1));
    for (size_t i = 0; i < sizeof SUBRESOURCES / sizeof *SUBRESOURCES; i++)
        if (*kind = OTHER, asked(r, SUBRESOURCES[i].name, NULL)) {
            if (*r->method != 'G') return "200 OK";
            return say(body, SUBRESOURCES[i].body), SUBRESOURCES[i].status;
        }
    if (asked(r, "delete", NULL)) return *kind = DELETE, delete_keys(body, r);
    if (!*key && *r->method == 'G') return *kind = LIST, list(body, r);
    if (*key && *r->method == 'H') return *kind = HEAD, head_or_copy(head, body, r, key, NULL);
    if (*key && *r->method == 'D') return *kind = DELETE, counts[KEYS]++, "204 No Content";
    if (source) return *kind = COPY, head_or_copy(head, body, r, key, source);
    return *r->method == 'H' ? "200 OK" : "501 No";
}
static void refuse(Buffer *body, const char *status) {
    SAY(body, XML("Error") "<Code>%s</Code></Error>", status + 4);
}
