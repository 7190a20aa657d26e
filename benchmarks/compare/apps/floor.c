/* The floor: the cost of the kernel for sending one event to many sockets, and nothing else.
 *
 * It has one thread. epoll waits for new connections and requests; for an event it calls a non-blocking send() for
 * every socket of the channel. It has no log, no replay, no heartbeat, and drops a client that does not keep up.
 * A GET that names no channel gets two bytes over a kept connection, as from bare.py.
 *
 *   cc -O2 -o floor floor.c && ./floor PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHANNELS 10000 /* their names are numbers */
#define FILES 65536
#define REQUEST 16384

static struct channel { int *sockets; int used, room; } channels[CHANNELS];
static struct client { char *request; int length; struct channel *channel; int place; } clients[FILES];
static long events;

static const char stream_head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                  "Cache-Control: no-cache\r\n\r\n: hi\n\n";
static const char accepted[] = "HTTP/1.1 204 No Content\r\n\r\n";
static const char bare[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

static void let_go(int fd)
{
    struct client *client = &clients[fd];
    struct channel *channel = client->channel;
    if (channel) { /* move the last socket to its place */
        int other = channel->sockets[--channel->used];
        channel->sockets[client->place] = other;
        clients[other].place = client->place;
    }
    free(client->request);
    memset(client, 0, sizeof *client);
    close(fd);
}

static void subscribe(int fd, struct channel *channel)
{
    if (channel->used == channel->room) {
        channel->room = channel->room ? 2 * channel->room : 16;
        channel->sockets = realloc(channel->sockets, channel->room * sizeof(int));
    }
    clients[fd].channel = channel;
    clients[fd].place = channel->used;
    channel->sockets[channel->used++] = fd;
    free(clients[fd].request);
    clients[fd].request = NULL;
    send(fd, stream_head, sizeof stream_head - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void publish(struct channel *channel, const char *body, int length)
{
    char event[REQUEST + 64];
    int size = sprintf(event, "id: %ld\ndata: %.*s\n\n", ++events, length, body);
    for (int i = channel->used - 1; i >= 0; i--) /* downwards, because let_go() moves the last socket */
        if (send(channel->sockets[i], event, size, MSG_DONTWAIT | MSG_NOSIGNAL) != size)
            let_go(channel->sockets[i]);
}

static void serve(int fd)
{
    struct client *client = &clients[fd];
    if (!client->request)
        client->request = malloc(REQUEST + 1);
    int got = recv(fd, client->request + client->length, REQUEST - client->length, MSG_DONTWAIT);
    if (got <= 0 || client->channel) { /* the client has gone, or sends on a stream */
        let_go(fd);
        return;
    }
    client->length += got;
    client->request[client->length] = 0;
    char *end = strstr(client->request, "\r\n\r\n");
    char *name = strstr(client->request, "channel=");
    if (end && !name && client->request[0] == 'G') {
        client->length = 0;
        send(fd, bare, sizeof bare - 1, MSG_NOSIGNAL);
        return;
    }
    if (!end || !name)
        return;
    struct channel *channel = &channels[(unsigned)atoi(name + 8) % CHANNELS];
    if (client->request[0] == 'G') {
        subscribe(fd, channel);
        return;
    }
    char *field = strcasestr(client->request, "content-length:");
    int length = field ? atoi(field + 15) : 0;
    if (client->request + client->length < end + 4 + length)
        return;
    client->length = 0;
    send(fd, accepted, sizeof accepted - 1, MSG_NOSIGNAL);
    for (char *line = end + 4, *stop = line + length; line < stop;) { /* each line is an event */
        char *next = memchr(line, '\n', stop - line);
        if (!next)
            next = stop;
        publish(channel, line, next - line);
        line = next + 1;
    }
}

int main(int count, char **arguments)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(count > 1 ? atoi(arguments[1]) : 0)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("floor");
        return 1;
    }
    int epoll = epoll_create1(0);
    struct epoll_event ready[512], event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int found = epoll_wait(epoll, ready, 512, -1);
        for (int i = 0; i < found; i++) {
            int fd = ready[i].data.fd;
            if (fd != listener) {
                serve(fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= FILES) {
                    close(fd);
                    continue;
                }
                event.data.fd = fd;
                epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}
