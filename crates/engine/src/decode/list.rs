//! A list, read object by object while it arrives, so that no more of its text is held than one object.

use serde::Deserialize;
use serde_json::Value;

use super::Decoded;

/// Swarm's store takes no object of more than 1.5 MiB. What is longer is none of its objects.
const LONGEST_OBJECT: usize = 16 << 20;

/// A JSON list on its way, and what was read of it.
///
/// It is cut at the commas between its items, and each item must be JSON as a whole: so what is taken here is exactly
/// what would be taken of the text in one piece.
pub(crate) struct List<T, Read> {
    read: Read,
    place: Place,
    /// The beginning of an item whose end has not arrived.
    begun: Vec<u8>,
    any: bool,
    found: Vec<T>,
}

enum Place {
    Before,
    Within(Nesting),
    After,
}

/// How deep a byte is inside an item.
#[derive(Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl<T, Read: FnMut(&[u8]) -> Decoded<Option<T>>> List<T, Read> {
    /// A list of which nothing has arrived. `read` takes the text of an object, and leaves it out by `None`.
    pub(crate) fn new(read: Read) -> Self {
        Self { read, place: Place::Before, begun: Vec::new(), any: false, found: Vec::new() }
    }

    /// Takes in what has arrived next.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Decoded<()> {
        loop {
            match &mut self.place {
                Place::Before => match without_blanks(bytes) {
                    [] => return Ok(()),
                    [b'[', rest @ ..] => {
                        self.place = Place::Within(Nesting::default());
                        bytes = rest;
                    }
                    _ => return Err(unreadable("it is no list")),
                },
                Place::Within(nesting) => {
                    let Some(end) = nesting.end_of_item(bytes) else {
                        self.begun.extend_from_slice(bytes);
                        if self.begun.len() > LONGEST_OBJECT {
                            return Err(unreadable(&format!("an object is longer than {LONGEST_OBJECT} bytes")));
                        }
                        return Ok(());
                    };
                    let (item, rest) = bytes.split_at(end);
                    let last = rest.starts_with(b"]");
                    self.item(item, last)?;
                    if last {
                        self.place = Place::After;
                    }
                    bytes = &rest[1..];
                }
                Place::After => {
                    let nothing = without_blanks(bytes).is_empty();
                    return if nothing { Ok(()) } else { Err(unreadable("more follows the list")) };
                }
            }
        }
    }

    /// What was read, once everything has arrived.
    pub(crate) fn end(self) -> Decoded<Vec<T>> {
        match self.place {
            Place::After => Ok(self.found),
            Place::Before | Place::Within(_) => Err(unreadable("it ends before the list does")),
        }
    }

    fn item(&mut self, end: &[u8], last: bool) -> Decoded<()> {
        let whole = if self.begun.is_empty() {
            end
        } else {
            self.begun.extend_from_slice(end);
            &self.begun
        };
        if last && !self.any && without_blanks(whole).is_empty() {
            return Ok(());
        }
        self.any = true;
        self.found.extend((self.read)(whole)?);
        self.begun.clear();
        Ok(())
    }
}

impl Nesting {
    /// Where the item ends that these bytes begin or go on with: at a comma or at the end of the list.
    fn end_of_item(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b',' | b']' if self.depth == 0 => return Some(at),
                // One that closes nothing is the item's to be refused for.
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        None
    }
}

fn without_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

fn unreadable(why: &str) -> String {
    format!("the answer does not read: {why}")
}

/// An object of a list; one that does not read is named by its id.
pub(super) fn item<'a, Wire: Deserialize<'a>>(bytes: &'a [u8], noun: &str) -> Decoded<Wire> {
    serde_json::from_slice(bytes).map_err(|error| match serde_json::from_slice::<Value>(bytes) {
        Ok(object) => {
            let id = object.get("ID").and_then(Value::as_str).unwrap_or("without id");
            format!("{noun} {id}: {error}")
        }
        Err(_) => unreadable(&error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The list in pieces of so many bytes.
    fn cut(text: &[u8], size: usize) -> Decoded<Vec<Value>> {
        let mut list = List::new(|bytes: &[u8]| item(bytes, "value").map(Some));
        for piece in text.chunks(size.max(1)) {
            list.push(piece)?;
        }
        list.end()
    }

    #[test]
    fn a_list_is_the_same_however_it_arrives() {
        for text in [
            r#"[]"#,
            " [ ] \n",
            r#"[{"a":[1,{"b":"],\"}"}]},{}]"#,
            r#"[1, "x\\", null , [[],[ ]],"\u005d"]"#,
            // None of these is a list.
            "",
            " ",
            "null",
            "{}",
            "[",
            "[[]",
            "[,]",
            "[1,]",
            "[1 2]",
            "[]]",
            "[] []",
            "[{]}]",
            "[}]",
            "[1}]",
            r#"["a]"#,
            "[\u{c}]",
        ] {
            let whole = serde_json::from_str::<Vec<Value>>(text).ok();
            for size in 1..=text.len() + 1 {
                assert_eq!(cut(text.as_bytes(), size).ok(), whole, "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_is_left_out_is_not_held_and_what_is_too_long_is_refused() {
        let mut list = List::new(|bytes: &[u8]| Ok((bytes.len() > 1).then(|| bytes.to_vec())));
        list.push(b"[1,22,3,44]").unwrap();
        assert_eq!(list.end(), Ok(vec![b"22".to_vec(), b"44".to_vec()]));
        let mut list = List::new(|_: &[u8]| Ok(Some(())));
        list.push(b"[\"").unwrap();
        let megabyte = vec![b'x'; 1 << 20];
        let pushed: Decoded<()> = (0..17).try_for_each(|_| list.push(&megabyte));
        assert!(pushed.unwrap_err().contains("an object is longer than"));
    }

    proptest! {
        /// Pieces of JSON in any order: mostly no list, and now and then one.
        #[test]
        fn what_is_cut_is_what_would_be_taken_whole(
            parts in proptest::collection::vec(
                prop_oneof![
                    4 => proptest::sample::select(vec![
                        "[", "]", "{", "}", ",", ":", "\"", "\\", " ", "\n", "1", "-", "e", "null", "\"a\"", "\"\\\"\"",
                        "{\"a\":1}", "[1,2]", "{\"ID\":\"x\",\"b\":[{}]}", "\u{e9}",
                    ]).prop_map(str::to_owned),
                    1 => ".{0,3}",
                ],
                0..12,
            ),
            bracketed in any::<bool>(),
            separated in any::<bool>(),
            size in 1..9usize,
        ) {
            let text = parts.join(if separated { "," } else { "" });
            let text = if bracketed { format!("[{text}]") } else { text };
            prop_assert_eq!(cut(text.as_bytes(), size).ok(), serde_json::from_str::<Vec<Value>>(&text).ok(), "{}", text);
        }
    }
}
