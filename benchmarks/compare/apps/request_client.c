/* The client of requests: sends one request again and again over kept connections, and counts the answers.
 *
 * It has one thread. Each connection has one request on the way: the next one is sent as soon as the answer is
 * complete. It reads the request from standard input, and prints one line of JSON. Answers must have a status 2xx and
 * a Content-Length, or be a 204. Where the server closes a connection after an answer, it opens a new one.
 *
 *   cc -O2 -o request_client request_client.c && ./request_client PORT CONNECTIONS SECONDS < request
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REQUEST 65536
#define ANSWER 65536
#define CONNECTIONS 1024
#define ANSWER_MS 10000 /* the longest wait for any answer */

static char request[REQUEST];
static int request_length, epoll;
static struct sockaddr_in address = {.sin_family = AF_INET};
static struct connection { int fd, length; char answer[ANSWER + 1]; } connections[CONNECTIONS];
static long answers, opened;

static void fail(const char *why)
{
    printf("{\"error\": \"%s\"}\n", why);
    exit(1);
}

static double now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void open_connection(struct connection *connection)
{
    int on = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address))
        fail("the server takes no connection");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event);
    opened++;
}

static void send_request(struct connection *connection)
{
    connection->length = 0;
    if (send(connection->fd, request, request_length, MSG_NOSIGNAL) != request_length)
        fail("the server does not take a request");
}

/* Return whether the answer is complete. */
static int receive(struct connection *connection)
{
    int got = recv(connection->fd, connection->answer + connection->length, ANSWER - connection->length, 0);
    if (got <= 0)
        fail("the server closes a connection before its answer is complete");
    connection->length += got;
    connection->answer[connection->length] = 0;
    char *end = strstr(connection->answer, "\r\n\r\n");
    if (!end)
        return 0;
    if (strncmp(connection->answer, "HTTP/1.1 2", 10))
        fail("the status of an answer is not 2xx");
    char *field = strcasestr(connection->answer, "\r\ncontent-length:");
    if (!field && strncmp(connection->answer + 9, "204", 3))
        fail("an answer has no Content-Length");
    int body = field && field < end ? atoi(field + 17) : 0;
    return connection->length >= end + 4 + body - connection->answer;
}

int main(int count, char **arguments)
{
    if (count != 4 || atoi(arguments[2]) < 1 || atoi(arguments[2]) > CONNECTIONS)
        fail("give the port, the number of connections and seconds");
    address.sin_port = htons(atoi(arguments[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int used = atoi(arguments[2]), busy = used;
    request_length = fread(request, 1, REQUEST, stdin);
    epoll = epoll_create1(0);
    for (int i = 0; i < used; i++)
        open_connection(&connections[i]);
    double begun = now(CLOCK_MONOTONIC), processor = now(CLOCK_PROCESS_CPUTIME_ID), end = begun + atof(arguments[3]);
    for (int i = 0; i < used; i++)
        send_request(&connections[i]);
    while (busy) {
        struct epoll_event ready[CONNECTIONS];
        int found = epoll_wait(epoll, ready, CONNECTIONS, ANSWER_MS);
        if (found <= 0)
            fail("the server does not answer");
        for (int i = 0; i < found; i++) {
            struct connection *connection = ready[i].data.ptr;
            if (!receive(connection))
                continue;
            answers++;
            if (now(CLOCK_MONOTONIC) >= end) {
                busy--;
                continue;
            }
            if (strcasestr(connection->answer, "\r\nconnection: close")) {
                close(connection->fd);
                open_connection(connection);
            }
            send_request(connection);
        }
    }
    double seconds = now(CLOCK_MONOTONIC) - begun;
    printf("{\"answers\": %ld, \"opened\": %ld, \"seconds\": %.9f, \"processor\": %.9f}\n", answers, opened, seconds,
           now(CLOCK_PROCESS_CPUTIME_ID) - processor);
    return 0;
}
