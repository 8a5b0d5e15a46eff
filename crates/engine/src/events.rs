//! The event stream: subscribe, read lines, notice silence.
//!
//! # Guarantees
//! - [`Event::Established`] comes when the Engine has answered. The Engine answers a moment before it really
//!   subscribes us, so the subscription asks for the events since shortly before it, by the Engine's own
//!   clock; those of the last seconds may therefore come again.
//! - The stream ends. When it has been silent for [`crate::Settings::silence`], the Engine is pinged, on another
//!   connection, and one that does not answer ends the stream with an error. That finds an engine that is
//!   gone or stuck, and on TCP the kernel's keep-alive finds a connection that is.
//!
//! # What it cannot do
//! A manager that lost its leader keeps the stream open, answers pings, and says nothing. So a list now and
//! then is needed all the same. The Engine also drops events of a reader that is slow for 100 ms while 1,024
//! are waiting.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::Timestamp;
use swarm::{Class, Error, Event, EventKind};

use crate::http::{Failure, Query};
use crate::{Core, decode};

const WATCH: &str = "watch events";
/// How long before now to ask for: an answer's date has whole seconds, and the events of Swarm bear the
/// time of the manager that made the change.
const BEFORE: Duration = Duration::from_secs(5);
/// No event is longer; a service's labels are not in it.
const LONGEST_EVENT: usize = 1 << 20;

pub(crate) fn events(core: Arc<Core>) -> impl Stream<Item = swarm::Result<Event>> + Send + 'static {
    stream::unfold(State::Closed(core), |state| async {
        match state {
            State::Closed(core) => match Subscription::open(core).await {
                Ok(subscription) => Some((Ok(Event::Established), State::Open(subscription))),
                Err(error) => Some((Err(error), State::Ended)),
            },
            State::Open(mut subscription) => match subscription.next().await {
                Some(Ok(kind)) => Some((Ok(Event::Changed(kind)), State::Open(subscription))),
                Some(Err(error)) => Some((Err(error), State::Ended)),
                None => None,
            },
            State::Ended => None,
        }
    })
}

enum State {
    Closed(Arc<Core>),
    Open(Subscription),
    Ended,
}

struct Subscription {
    core: Arc<Core>,
    body: Incoming,
    lines: Lines,
}

impl Subscription {
    async fn open(core: Arc<Core>) -> swarm::Result<Self> {
        let response = core
            .attempt(WATCH, async {
                let since = core.ping().await? - BEFORE;
                let query = ["service", "node", "network", "config", "secret"]
                    .into_iter()
                    .fold(Query::default(), |query, kind| query.filter("type", kind))
                    .filter("scope", "swarm")
                    .pair("since", since.as_second());
                core.http.open("/events", &query).await
            })
            .await?;
        Ok(Self { core, body: response.into_body(), lines: Lines::default() })
    }

    async fn next(&mut self) -> Option<swarm::Result<EventKind>> {
        loop {
            match self.lines.next() {
                Some(line) => match decode::event(&line) {
                    Ok(Some(kind)) => return Some(Ok(kind)),
                    Ok(None) => continue,
                    Err(problem) => return Some(Err(self.failed(Failure::malformed(problem)))),
                },
                None if self.lines.waiting() > LONGEST_EVENT => {
                    let problem = format!("an event is longer than {LONGEST_EVENT} bytes");
                    return Some(Err(self.failed(Failure::malformed(problem))));
                }
                None => {}
            }
            let core = &self.core;
            tokio::select! {
                // Both may be dropped: a frame is taken whole or not at all, and of a ping nothing is kept.
                frame = self.body.frame() => match frame {
                    Some(Ok(frame)) => {
                        if let Ok(bytes) = frame.into_data() {
                            self.lines.push(&bytes);
                        }
                    }
                    Some(Err(error)) => {
                        let failure = core.http.unreachable(&error);
                        return Some(Err(self.failed(failure)));
                    }
                    None if self.lines.waiting() > 0 => {
                        let failure = Failure::new(Class::Unreachable, "the stream ended inside an event");
                        return Some(Err(self.failed(failure)));
                    }
                    None => return None,
                },
                alive = silent(core) => {
                    if let Err(error) = alive {
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    fn failed(&self, failure: Failure) -> Error {
        self.core.failed(WATCH, failure)
    }
}

/// Waits for as long as silence is fine, then asks whether the Engine is there.
async fn silent(core: &Core) -> swarm::Result<()> {
    tokio::time::sleep(core.settings.silence).await;
    core.attempt("ping the engine of a silent event stream", async { core.ping().await.map(drop) }).await
}

impl Core {
    /// The Engine's time, to the second. Ours, if it does not tell.
    async fn ping(&self) -> Result<Timestamp, Failure> {
        let response = self.http.open_unversioned("/_ping").await?;
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
        // Reading to the end gives the connection back.
        response.into_body().collect().await.map_err(|error| self.http.unreachable(&error))?;
        Ok(date.unwrap_or_else(Timestamp::now))
    }
}

/// Cuts a stream of bytes into lines, however they arrive.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    /// So far there is no end of line.
    searched: usize,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line that is not blank, without its end.
    fn next(&mut self) -> Option<Bytes> {
        while let Some(at) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
            let line = self.buffer.split_to(self.searched + at + 1).freeze();
            self.searched = 0;
            if !line.trim_ascii().is_empty() {
                return Some(line.slice(..line.len() - 1));
            }
        }
        self.searched = self.buffer.len();
        None
    }

    /// Bytes of a line without an end.
    fn waiting(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_however_they_came_in() {
        let text = b"{\"a\":1}\n{\"b\":2}\r\n\n \n{\"c\":\"\\n\"}\n{\"d\"";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut read = Vec::new();
            for chunk in text.chunks(size) {
                lines.push(chunk);
                while let Some(line) = lines.next() {
                    read.push(String::from_utf8(line.to_vec()).unwrap().trim().to_owned());
                }
            }
            assert_eq!(read, ["{\"a\":1}", "{\"b\":2}", "{\"c\":\"\\n\"}"], "chunks of {size}");
            assert_eq!(lines.waiting(), 4, "chunks of {size}");
        }
    }
}
