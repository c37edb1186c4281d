// Package web is r2rec's HTTP API and the page on which people watch the loop at work.
//
// It takes events in (validated with the same rules as the consumer's, then published to Kafka as the bytes that were
// sent), hands recommendations and the decisions behind them out, forgets users, reports health and metrics, and
// streams what happens to the page as server-sent events. openapi.json, served at /openapi.json, is its contract.
//
// It promises:
//   - A request's events are published all or not at all, as far as validation goes; a refused request names every bad
//     event by index, field, value and rule.
//   - Every error is a problem document (RFC 9457) that says what to do and never shows a stack or a secret.
//   - Nothing is unbounded: bodies, ids, list lengths, streams, each stream's queue, the decisions that are kept.
//   - A browser can be used against it neither from another origin (its requests are refused; of a GET, browsers tell on
//     loopback and behind HTTPS only) nor by DNS rebinding (on a loopback address only known host names are answered); the
//     page runs no inline script, and text that users wrote reaches the document as text only.
//   - Other users appear in its answers as numbers, never by id, except in the list of active users and the live
//     stream, which are for whoever operates r2rec: set a token wherever others can reach the address.
//   - When the context of Serve ends, streams end at once and requests in flight are finished.
//
// It leaves to others: ranking and logging (Recommender), Kafka (Publisher), the graph (Explorer), which adapters serve
// (Adapters), how learning goes (Loop), the state of the
// parts (Health), TLS and user accounts (a proxy in front).
package web
