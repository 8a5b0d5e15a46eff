//! Logs of containers.

use swarm::limits;

use super::Decoded;

/// The length of a frame's head: the stream, three zeros, the length of what follows.
pub(crate) const LOG_HEAD: usize = 8;

/// The text in the frames of a log. The last frame may be cut off, as the reader stops somewhere.
///
/// # Errors
/// What the Engine says in place of a log; or that these are no frames: the container has a terminal.
pub(crate) fn log(mut bytes: &[u8]) -> Decoded<String> {
    let mut text = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<LOG_HEAD>() {
        let [stream, 0, 0, 0, length @ ..] = head else { return Err("the log has no frames".into()) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (content, rest) = rest.split_at(length.min(rest.len()));
        match stream {
            0..=2 => text.extend_from_slice(content),
            3 => return Err(String::from_utf8_lossy(content).trim().to_owned()),
            _ => return Err("the log has no frames".into()),
        }
        bytes = rest;
    }
    text.truncate(limits::LOG_BYTES);
    Ok(String::from_utf8_lossy(&text).into_owned())
}
