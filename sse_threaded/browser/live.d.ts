/**
 * @typedef {"connecting"|"live"|"polling"|"waiting"|"reconnecting"|"paused"|"refused"|"finished"|"closed"} State
 *
 * @typedef {object} LiveEvent
 * @property {string|undefined} channel The name of its channel, if the server sends it.
 * @property {string} type Its name, such as "paid"; "message" if it has none.
 * @property {string} data
 * @property {string} id
 *
 * @typedef {object} Options
 * @property {string} [lastEventId] The id up to which the page shows everything. Default: the server decides.
 * @property {(channels: string[]) => string|Promise<string>} [ticket] Gets a ticket from the app, for `?ticket=`.
 * @property {string} [key] Only tabs with the same URL and key share a connection. Give the id of the user.
 * @property {boolean} [shared] Whether tabs share a connection; default true.
 * @property {RequestCredentials} [credentials] As in fetch; default "include".
 * @property {number} [longestUrl] In characters; default 4000. Channels that do not fit are refused.
 * @property {Partial<typeof TIMES>} [times] Other times, in milliseconds.
 *
 * @typedef {object} Span All events of some channels after one id, up to another.
 * @property {string[]} channels
 * @property {string|undefined} from
 * @property {string|undefined} to
 * @property {LiveEvent[]} [events]
 * @property {boolean} [begins] The connection began here, as the server decided.
 * @property {string} [reset] The server could not resume. This is its reason, as JSON.
 */
/** Reads a stream's text (WHATWG HTML 9.2.6). Its field `channel` is this package's own. */
export class EventStreamParser {
    /** @param {string} [id] The last event ID before this stream. */
    constructor(id?: string);
    /** The reconnection time, in milliseconds. @type {number|undefined} */
    retry: number | undefined;
    id: string;
    /**
     * @param {string} text The next part, of any length.
     * @returns {LiveEvent[]} The events that are complete now.
     */
    feed(text: string): LiveEvent[];
    #private;
}
/**
 * The events of a URL, in this tab. It dispatches events about itself, of the class `CustomEvent`:
 *
 * - `state`: the state has changed. `detail` is `{state, detail}`.
 * - `reset`: events of `detail.channels` are missing. The page must load its state again.
 * - `finished`: a channel has ended. `detail` is its last event.
 * - `overload`: the server has no room for a stream. The client tries again.
 * - `refused`: the server refuses `detail.channels`, or all if this is empty. It has `detail.status`, `detail.detail`.
 * - `people`: the users on a channel have changed. `detail` is `{channel, people, count}`; see {@link Live.people}.
 * - other notices of the server, whose names begin with `stream-`. `detail` is the event.
 */
export class Live extends EventTarget {
    /**
     * @param {string|URL} url Of the stream. A `?lastEventId=` in it counts as the option.
     * @param {Options} [options]
     */
    constructor(url: string | URL, options?: Options);
    /** The state of the connection. */
    get state(): State;
    /** A few words about the state, for people; may be empty. */
    get detail(): string;
    /** Whether this tab has the connection. */
    get leads(): boolean;
    /**
     * Have a function called with each event of a channel.
     *
     * @param {string} channel Its name; or "" for all events of the URL.
     * @param {(event: LiveEvent) => void} handler
     * @param {{lastEventId?: string}} [options] The id after which it begins; default: the one of this Live.
     * @returns {() => void} Ends the subscription.
     */
    subscribe(channel: string, handler: (event: LiveEvent) => void, { lastEventId }?: {
        lastEventId?: string;
    }): () => void;
    /**
     * The users on a channel, if the view shows them: sorted, or `null` if they are very many, and their number.
     *
     * @param {string} channel
     * @returns {{people: string[]|null, count: number}|undefined}
     */
    people(channel: string): {
        people: string[] | null;
        count: number;
    } | undefined;
    /** Try to connect now, and not only after the next wait. */
    retry(): void;
    /** End all subscriptions and this tab's part of the connection, for good. */
    close(): void;
    #private;
}
export type State = "connecting" | "live" | "polling" | "waiting" | "reconnecting" | "paused" | "refused" | "finished" | "closed";
export type LiveEvent = {
    /**
     * The name of its channel, if the server sends it.
     */
    channel: string | undefined;
    /**
     * Its name, such as "paid"; "message" if it has none.
     */
    type: string;
    data: string;
    id: string;
};
export type Options = {
    /**
     * The id up to which the page shows everything. Default: the server decides.
     */
    lastEventId?: string;
    /**
     * Gets a ticket from the app, for `?ticket=`.
     */
    ticket?: (channels: string[]) => string | Promise<string>;
    /**
     * Only tabs with the same URL and key share a connection. Give the id of the user.
     */
    key?: string;
    /**
     * Whether tabs share a connection; default true.
     */
    shared?: boolean;
    /**
     * As in fetch; default "include".
     */
    credentials?: RequestCredentials;
    /**
     * In characters; default 4000. Channels that do not fit are refused.
     */
    longestUrl?: number;
    /**
     * Other times, in milliseconds.
     */
    times?: Partial<typeof TIMES>;
};
/**
 * All events of some channels after one id, up to another.
 */
export type Span = {
    channels: string[];
    from: string | undefined;
    to: string | undefined;
    events?: LiveEvent[];
    /**
     * The connection began here, as the server decided.
     */
    begins?: boolean;
    /**
     * The server could not resume. This is its reason, as JSON.
     */
    reset?: string;
};
declare namespace TIMES {
    let silence: number;
    let opening: number;
    let again: number;
    let longest: number;
    let hidden: number;
    let beat: number;
}
export {};
