//! Readers: from a value of Interlock's to one of ours.
//!
//! What the admin wrote keeps its meaning. A value outside our bounds is moved to the nearest that is possible and
//! said to be changed; one that has no counterpart is left out with a reason. Only what has another type, or no
//! meaning at all, is an error.

use std::time::Duration;

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use model::labels::UCP_ACCESS;

use super::source::Item;
use crate::config::{Size, Span};

/// What became of a value.
#[derive(Debug, PartialEq)]
pub enum Reading {
    /// It is taken over.
    Taken(Value),
    /// It is taken over, and somebody should think about it.
    Doubtful(Value, String),
    /// Another one is taken.
    Changed(Value, String),
    /// It is left out.
    Dropped(String),
}

use Reading::{Changed, Doubtful, Dropped, Taken};

/// A reader; its error says what would be right.
pub type Reader = fn(&Item<'_>) -> Result<Reading, String>;

const DAY: u64 = 86_400_000;

/// A text, as it is; an empty one says nothing.
pub fn text(item: &Item<'_>) -> Result<Reading, String> {
    let text = string(item)?;
    Ok(if text.is_empty() { Dropped(EMPTY.into()) } else { Taken(json!(text)) })
}

/// A text that may be empty.
pub fn any_text(item: &Item<'_>) -> Result<Reading, String> {
    Ok(Taken(json!(string(item)?)))
}

/// Why an empty value is left out.
pub const EMPTY: &str = "it is empty";

/// Whether.
pub fn flag(item: &Item<'_>) -> Result<Reading, String> {
    boolean(item).map(|flag| Taken(json!(flag)))
}

pub(super) fn boolean(item: &Item<'_>) -> Result<bool, String> {
    match item.value.get_ref() {
        DeValue::Boolean(flag) => Ok(*flag),
        DeValue::String(text) if text == "true" => Ok(true),
        DeValue::String(text) if text == "false" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

/// A whole number between two bounds, both included.
pub fn whole<const MIN: u64, const MAX: u64>(item: &Item<'_>) -> Result<Reading, String> {
    let number = number(item)?;
    let nearest = number.clamp(MIN, MAX);
    Ok(if nearest == number {
        Taken(json!(number))
    } else {
        Changed(json!(nearest), format!("{MIN} to {MAX} is possible"))
    })
}

/// A port.
pub fn port(item: &Item<'_>) -> Result<Reading, String> {
    match number(item)? {
        port @ 1..=65535 => Ok(Taken(json!(port))),
        _ => Err("expected a port from 1 to 65535".into()),
    }
}

/// A port inside the proxies' containers: there is no choice.
pub fn target_port(item: &Item<'_>) -> Result<Reading, String> {
    port(item)?;
    Ok(Dropped("inside its container a proxy listens on 80 and 443; nobody outside sees that".into()))
}

/// The number of worker processes.
pub fn workers(item: &Item<'_>) -> Result<Reading, String> {
    if matches!(item.value.get_ref(), DeValue::String(text) if text == "auto") {
        return Ok(Taken(json!("auto")));
    }
    whole::<1, 512>(item).map_err(|_| "expected auto or a whole number".into())
}

/// A number of seconds, as a length of time.
pub fn seconds(item: &Item<'_>) -> Result<Reading, String> {
    let seconds = number(item)?;
    Ok(span(seconds.saturating_mul(1000)))
}

/// The time for a connection to an application.
pub fn connect_timeout(item: &Item<'_>) -> Result<Reading, String> {
    Ok(match seconds(item)? {
        Taken(value) if number(item)? >= 60 => Doubtful(
            value,
            "a dead address holds a request for so long; Interlock's old default was 600, Dovetail's is 5s".into(),
        ),
        other => other,
    })
}

/// A length of time in Go's form: `5s`, `1m30s`.
pub fn go_time(item: &Item<'_>) -> Result<Reading, String> {
    let text = string(item)?;
    let units = [("ns", 1e-6), ("us", 1e-3), ("µs", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4), ("h", 3.6e6)];
    let time = if text == "0" { Some(0.0) } else { sum_of_units(text, &units) };
    match time {
        Some(milliseconds) => Ok(span(rounded(milliseconds))),
        None => Err("expected a length of time such as 500ms, 3s or 1m30s".into()),
    }
}

/// The time that a proxy has for open requests. nginx has to be done a little earlier.
pub fn grace(item: &Item<'_>) -> Result<Reading, String> {
    let read = go_time(item)?;
    let Taken(Value::String(text)) = &read else { return Ok(read) };
    Ok(match <Span as crate::config::Scalar>::read(text) {
        Ok(Span(time)) if time < Duration::from_secs(1) => {
            Changed(json!("1s"), "it is the least that is possible".into())
        }
        _ => read,
    })
}

/// The pause between two steps of an update; none at all is our default.
pub fn delay(item: &Item<'_>) -> Result<Reading, String> {
    Ok(match go_time(item)? {
        Dropped(_) => Taken(Value::Null),
        other => other,
    })
}

/// A length of time in nginx's form: `75`, `75s`, `1h 30m`.
pub fn nginx_time(item: &Item<'_>) -> Result<Reading, String> {
    let compact: String = written(item)?.split_whitespace().collect();
    nginx_span(&compact).ok_or_else(|| "expected a length of time such as 75, 75s or 1h 30m".into())
}

/// The units of nginx's times, and how many milliseconds each has.
const UNITS: [(&str, f64); 7] =
    [("ms", 1.0), ("s", 1e3), ("m", 6e4), ("h", 3.6e6), ("d", 8.64e7), ("w", 6.048e8), ("", 1e3)];

fn nginx_span(text: &str) -> Option<Reading> {
    let milliseconds = sum_of_units(text, &UNITS).filter(|_| !text.contains('.'))?;
    Some(span(rounded(milliseconds)))
}

/// How long an idle client connection is kept. nginx's `keepalive_timeout` takes a second time, which clients are told:
/// `75s 60s`. Units that fall, as in `1h 30m`, are one time in two words.
pub fn keepalive_timeout(item: &Item<'_>) -> Result<Reading, String> {
    let written = written(item)?;
    let words: Vec<&str> = written.split_whitespace().collect();
    let [first, second] = words[..] else { return nginx_time(item) };
    let (Some(read), Some(_)) = (nginx_span(first), nginx_span(second)) else { return nginx_time(item) };
    let digit = |c: char| c.is_ascii_digit();
    let last = first.rsplit(digit).next().unwrap_or_default();
    let next = second.trim_start_matches(digit).split(digit).next().unwrap_or_default();
    let length = |unit: &str| UNITS.iter().find(|(known, _)| *known == unit).map(|(_, length)| *length);
    if length(last) > length(next) {
        return nginx_time(item);
    }
    Ok(match read {
        Taken(value) => {
            Changed(value, "the second of two times is what clients are told, and Dovetail tells nothing".into())
        }
        other => other,
    })
}

/// An amount of bytes in nginx's form, `512`, `8k` or `32m`, at least so large.
pub fn size<const MIN: u64>(item: &Item<'_>) -> Result<Reading, String> {
    let written = written(item)?;
    let size = bytes(&written)?;
    let nearest = Size(size.0.max(MIN));
    let value = json!(nearest.to_string());
    Ok(if nearest == size { Taken(value) } else { Changed(value, format!("{nearest} is the least that is possible")) })
}

/// A whole number or a text, as a text.
fn written(item: &Item<'_>) -> Result<String, String> {
    Ok(match item.value.get_ref() {
        DeValue::Integer(_) => number(item)?.to_string(),
        _ => string(item)?.to_owned(),
    })
}

fn bytes(text: &str) -> Result<Size, String> {
    <Size as crate::config::Scalar>::read(text).map_err(|_| "expected a size such as 512, 8k or 32m".into())
}

/// The smallest shared memory of an upstream, in KB.
pub fn kilobytes(item: &Item<'_>) -> Result<Reading, String> {
    let kilobytes = number(item)?;
    let nearest = kilobytes.clamp(32, 64 << 10);
    let value = json!(Size(nearest << 10).to_string());
    Ok(if nearest == kilobytes { Taken(value) } else { Changed(value, "32k to 64m is possible".into()) })
}

/// Number and size of buffers: `4 8k`.
pub fn header_buffers(item: &Item<'_>) -> Result<Reading, String> {
    const EXPECTED: &str = "expected a number and a size such as 4 8k";
    let text = string(item)?;
    let (number, size) = text.trim().split_once(' ').ok_or(EXPECTED)?;
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let size = bytes(size.trim()).map_err(|_| EXPECTED)?;
    let nearest = (number.clamp(1, 64), Size(size.0.max(512)));
    let value = json!({ "number": nearest.0, "size": nearest.1.to_string() });
    Ok(if nearest == (number, size) {
        Taken(value)
    } else {
        Changed(value, "1 to 64 buffers of at least 512 bytes are possible".into())
    })
}

/// A list of texts.
pub fn texts(item: &Item<'_>) -> Result<Reading, String> {
    let texts = list(item)?;
    Ok(if texts.is_empty() { Dropped(EMPTY.into()) } else { Taken(json!(texts)) })
}

fn list<'a>(item: &'a Item<'_>) -> Result<Vec<&'a str>, String> {
    let texts = match item.value.get_ref() {
        DeValue::Array(array) => array.iter().map(|value| value.get_ref().as_str()).collect(),
        _ => None,
    };
    texts.ok_or_else(|| "expected a list of texts".into())
}

/// Node labels to spread over, with or without `spread=` in front.
pub fn preferences(item: &Item<'_>) -> Result<Reading, String> {
    let read = texts(item)?;
    let Taken(Value::Array(texts)) = &read else { return Ok(read) };
    let bare: Vec<&str> =
        texts.iter().filter_map(Value::as_str).map(|text| text.strip_prefix("spread=").unwrap_or(text)).collect();
    Ok(Taken(json!(bare)))
}

/// Labels: all but those that mean something else on Dovetail's services.
pub fn service_labels(item: &Item<'_>) -> Result<Reading, String> {
    let DeValue::Table(table) = item.value.get_ref() else {
        return Err("expected a table of labels".into());
    };
    let (mut labels, mut left_out) = (Map::new(), Vec::new());
    for (name, value) in table.iter() {
        let name: &str = name.get_ref();
        let Some(value) = value.get_ref().as_str() else {
            return Err(format!("the label {name} is no text"));
        };
        if name == INSTANCE_ID || name == model::labels::TYPE || name.starts_with("dovetail.") {
            left_out.push(name.to_owned());
        } else {
            labels.insert(name.to_owned(), json!(value));
        }
    }
    left_out.sort();
    let reason = format!("without {}, by which UCP or Dovetail know their own services", left_out.join(" and "));
    Ok(match (labels.is_empty(), left_out.is_empty()) {
        (true, true) => Dropped(EMPTY.into()),
        (true, false) => Dropped(format!("UCP and Dovetail know their own services by {}", left_out.join(" and "))),
        (false, false) => Changed(Value::Object(labels), reason),
        (false, true) if labels.contains_key(UCP_ACCESS) => Doubtful(
            Value::Object(labels),
            format!("{UCP_ACCESS} belongs on every object: name it in object_labels instead"),
        ),
        (false, true) => Taken(Value::Object(labels)),
    })
}

const INSTANCE_ID: &str = "com.docker.ucp.InstanceID";

/// How ports are published.
pub fn publish_mode(item: &Item<'_>) -> Result<Reading, String> {
    match string(item)? {
        "" => Ok(Dropped(EMPTY.into())),
        "ingress" => Ok(Taken(json!("ingress"))),
        "host" => Ok(Taken(json!("host"))),
        _ => Err("expected ingress or host".into()),
    }
}

/// The signal that stops a proxy.
pub fn stop_signal(item: &Item<'_>) -> Result<Reading, String> {
    let signal = string(item)?;
    Ok(match signal {
        "" => Dropped(EMPTY.into()),
        "SIGQUIT" => Taken(json!(signal)),
        _ => Doubtful(json!(signal), "nginx finishes open requests on SIGQUIT only".into()),
    })
}

/// Whether and how requests are logged.
pub fn access_log(item: &Item<'_>) -> Result<Reading, String> {
    Ok(match string(item)? {
        "off" => Taken(json!("off")),
        _ => Dropped("proxies log to their standard output".into()),
    })
}

/// The versions of TLS.
pub fn protocols(item: &Item<'_>) -> Result<Reading, String> {
    let written = string(item)?;
    let all: Vec<&str> = written.split_whitespace().collect();
    let mut possible: Vec<&str> = Vec::new();
    for name in &all {
        let known = <crate::config::TlsProtocol as crate::config::Scalar>::read(name).is_ok();
        if known && !possible.contains(name) {
            possible.push(name);
        }
    }
    let old = |name: &&str| matches!(*name, "TLSv1" | "TLSv1.1");
    Ok(if all.is_empty() {
        Dropped(EMPTY.into())
    } else if possible.is_empty() {
        Dropped("what is older than TLSv1 is broken; the default is TLSv1.2 and TLSv1.3".into())
    } else if possible.len() < all.len() {
        Changed(json!(possible), "TLSv1 to TLSv1.3 are possible, each once".into())
    } else if possible.iter().any(old) {
        Doubtful(json!(possible), "what is older than TLSv1.2 is for very old clients only".into())
    } else if possible == ["TLSv1.2"] {
        Doubtful(json!(possible), "TLSv1.3 is left out; Dovetail's default has both".into())
    } else {
        Taken(json!(possible))
    })
}

/// The ciphers, in OpenSSL's form; blanks separate as colons do.
pub fn ciphers(item: &Item<'_>) -> Result<Reading, String> {
    let written = string(item)?.split_whitespace().collect::<Vec<_>>().join(":");
    Ok(if written.is_empty() { Dropped(EMPTY.into()) } else { Taken(json!(written)) })
}

/// Lines in nginx's language. A text of several becomes several; empty ones go.
pub fn lines(item: &Item<'_>) -> Result<Reading, String> {
    let lines = list(item)?.into_iter().flat_map(str::lines).map(str::trim_end).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    Ok(if lines.is_empty() { Dropped(EMPTY.into()) } else { Doubtful(json!(lines), UNCHECKED.into()) })
}

const UNCHECKED: &str = "nobody but nginx checks these lines, and one that Dovetail writes too can keep it from starting; look at \
                         `dovetail render` around them";

/// Lines outside of all blocks: the modules that they load, whose place is at the top of the file, and the rest.
pub fn modules_and_lines(item: &Item<'_>) -> Result<(Option<Reading>, Option<Reading>), String> {
    let Doubtful(Value::Array(lines), reason) = lines(item)? else { return Ok((None, None)) };
    let (mut modules, mut rest) = (Vec::new(), Vec::new());
    for line in lines {
        let module = line.as_str().and_then(|line| line.trim().strip_prefix("load_module")?.trim().strip_suffix(';'));
        match module {
            Some(module) => modules.push(json!(module.trim_matches(['"', '\'', ' ']))),
            None => rest.push(line),
        }
    }
    let reading =
        |lines: Vec<Value>, reason: &str| (!lines.is_empty()).then(|| Doubtful(Value::Array(lines), reason.to_owned()));
    Ok((reading(modules, "they have to be in the image, made for its nginx"), reading(rest, &reason)))
}

pub(super) fn string<'a>(item: &'a Item<'_>) -> Result<&'a str, String> {
    item.value.get_ref().as_str().ok_or_else(|| "expected a text in quotes".into())
}

fn number(item: &Item<'_>) -> Result<u64, String> {
    let read = match item.value.get_ref() {
        DeValue::Integer(integer) => {
            u64::from_str_radix(integer.as_str().trim_start_matches('+'), integer.radix()).ok()
        }
        // Some write it so, and Interlock's own documents disagree about the types.
        DeValue::String(text) => text.parse().ok(),
        _ => None,
    };
    read.ok_or_else(|| "expected a whole number that is not negative".into())
}

/// A length of time of so many milliseconds within our bounds.
fn span(milliseconds: u64) -> Reading {
    let value = |milliseconds| json!(Span(Duration::from_millis(milliseconds)).to_string());
    match milliseconds {
        0 => Dropped("0 is not possible here; the default counts".into()),
        1..=DAY => Taken(value(milliseconds)),
        _ => Changed(value(DAY), "a day is the most that is possible".into()),
    }
}

fn rounded(milliseconds: f64) -> u64 {
    // Out of range it becomes the bound, which is cut to a day.
    let whole = milliseconds.ceil();
    if whole >= 1e15 { u64::MAX } else { whole as u64 }
}

/// Reads `1h30m`: numbers, each with a unit. The longest unit that fits counts.
fn sum_of_units(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (mut rest, mut sum) = (text, 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_alphabetic()).len();
        let (_, scale) = units.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        sum += number * scale;
        rest = &rest[letters..];
    }
    Some(sum)
}
