/* The floor: what handing a text on costs when nothing else is done.
 *
 * Lives here: one thread, epoll, and send(). Each turn joins all texts that came for a room into one buffer of finished
 * frames, and gives it to every member with one send(). Must not live here: anything a chat needs: no check of what comes,
 * no store, no wait for a reader. Invariant: what a socket does not take at once ends that socket, and is told.
 *
 * GET /N puts a connection into room N. The upgrade is answered without looking at its key.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNS = 65536, ROOMS = 16384, EVENTS = 1024, READ_BYTES = 1 << 16, ROOM_BYTES = 1 << 20, HEAD_BYTES = 2048 };

struct conn {
    int room; /* -1 until it is upgraded */
    int place;
    size_t held;
    unsigned char *head; /* the beginning of a request or frame whose end has not come */
};

struct room {
    int *members;
    int count, space;
    unsigned char *out;
    size_t length;
    int is_listed;
};

static struct conn conns[CONNS];
static struct room rooms[ROOMS];
static int listed[ROOMS], listed_count;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void leave(int fd) {
    struct conn *c = &conns[fd];
    if (c->room >= 0) {
        struct room *r = &rooms[c->room];
        int moved = r->members[--r->count];
        r->members[c->place] = moved;
        conns[moved].place = c->place;
    }
    free(c->head);
    memset(c, 0, sizeof *c);
    c->room = -1;
    close(fd);
}

static void enter(int fd, int room) {
    struct room *r = &rooms[room];
    if (r->count == r->space) {
        r->space = r->space ? r->space * 2 : 16;
        r->members = realloc(r->members, r->space * sizeof *r->members);
        if (!r->members) fail("realloc");
    }
    conns[fd].room = room;
    conns[fd].place = r->count;
    r->members[r->count++] = fd;
}

static void give(struct room *r) {
    for (int i = 0; i < r->count; i++) {
        ssize_t sent = send(r->members[i], r->out, r->length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent != (ssize_t)r->length) {
            fprintf(stderr, "a receiver is too slow for the floor, and is dropped\n");
            leave(r->members[i--]);
        }
    }
    r->length = 0;
}

static void hand_on(int room, const unsigned char *text, const unsigned char *mask, size_t length) {
    struct room *r = &rooms[room];
    if (!r->out && !(r->out = malloc(ROOM_BYTES))) fail("malloc");
    if (r->length + length + 10 > ROOM_BYTES) give(r);
    unsigned char *out = r->out + r->length;
    *out++ = 0x81;
    if (length < 126) {
        *out++ = (unsigned char)length;
    } else {
        *out++ = 126;
        *out++ = (unsigned char)(length >> 8);
        *out++ = (unsigned char)length;
    }
    for (size_t i = 0; i < length; i++) *out++ = text[i] ^ mask[i & 3];
    r->length = (size_t)(out - r->out);
    if (!r->is_listed) {
        r->is_listed = 1;
        listed[listed_count++] = room;
    }
}

/* Takes whole frames off the front. Returns how many bytes were taken, or -1 where the connection is to end. */
static ssize_t frames(int fd, const unsigned char *bytes, size_t length) {
    size_t at = 0;
    while (length - at >= 6) {
        const unsigned char *f = bytes + at;
        size_t payload = f[1] & 0x7f, head = 2;
        if (payload == 127) return -1;
        if (payload == 126) {
            payload = (size_t)f[2] << 8 | f[3];
            head = 4;
        }
        if (length - at < head + 4 + payload) break;
        int opcode = f[0] & 0x0f;
        if (opcode == 8) return -1;
        if (opcode == 1) hand_on(conns[fd].room, f + head + 4, f + head, payload);
        at += head + 4 + payload;
    }
    return (ssize_t)at;
}

static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

static ssize_t taken(int fd, unsigned char *bytes, size_t length) {
    if (conns[fd].room >= 0) return frames(fd, bytes, length);
    unsigned char *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (!end) return length > HEAD_BYTES ? -1 : 0;
    int room = 0;
    if (sscanf((char *)bytes, "GET /%d ", &room) != 1 || room < 0 || room >= ROOMS) return -1;
    if (send(fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) != sizeof ANSWER - 1) return -1;
    enter(fd, room);
    size_t head = (size_t)(end - bytes) + 4;
    ssize_t rest = frames(fd, bytes + head, length - head);
    return rest < 0 ? rest : (ssize_t)head + rest;
}

static void readable(int fd) {
    static unsigned char buffer[READ_BYTES];
    struct conn *c = &conns[fd];
    size_t held = c->held;
    if (held) memcpy(buffer, c->head, held);
    ssize_t got = recv(fd, buffer + held, sizeof buffer - held, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        leave(fd);
        return;
    }
    size_t length = held + (size_t)got;
    ssize_t used = taken(fd, buffer, length);
    if (used < 0) {
        leave(fd);
        return;
    }
    c->held = length - (size_t)used;
    free(c->head);
    c->head = NULL;
    if (c->held) {
        if (!(c->head = malloc(c->held))) fail("malloc");
        memcpy(c->head, buffer + used, c->held);
    }
}

int main(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < CONNS; i++) conns[i].room = -1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("listening on http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                readable(fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= CONNS) {
                    close(fd);
                    continue;
                }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event.events = EPOLLIN;
                event.data.fd = fd;
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
            }
        }
        for (int i = 0; i < listed_count; i++) {
            rooms[listed[i]].is_listed = 0;
            give(&rooms[listed[i]]);
        }
        listed_count = 0;
    }
}
