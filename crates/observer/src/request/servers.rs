//! Where the requests of a service go: its port, its tasks or its VIP, its share, and when one is set aside.

use std::num::NonZeroU16;
use std::time::Duration;

use model::values::number;
use model::{BackendMode, Code, Problem, ServerOptions, labels};

use super::units;
use super::written::{Written, trimmed};

/// The most failures that can be waited for; beyond that 0 (never) is meant.
const MOST_FAILS: u32 = 1_000_000;

/// Unlike elsewhere an empty value is a problem, as for `port`: both have always been so.
pub(super) fn backend_mode(written: &mut Written<'_>) -> Option<BackendMode> {
    let Some(value) = written.raw(labels::BACKEND_MODE) else {
        return Some(BackendMode::default());
    };
    let word = trimmed(value);
    let read = [BackendMode::Task, BackendMode::Vip].into_iter().find(|mode| word.eq_ignore_ascii_case(mode.as_str()));
    if read.is_none() {
        written.refuse(Code::BadBackendMode, labels::BACKEND_MODE, "is no backend mode", "task or vip");
    }
    read
}

pub(super) fn port(written: &mut Written<'_>) -> Option<NonZeroU16> {
    const ALLOWED: &str = "a number from 1 to 65535";
    let Some(value) = written.raw(labels::PORT) else {
        let problem = Problem::new(Code::MissingPort, format!("the label {} is missing", labels::PORT));
        written.problem(problem.allowed(ALLOWED));
        return None;
    };
    let read = number(trimmed(value));
    if read.is_none() {
        written.refuse(Code::BadPort, labels::PORT, "is no port", ALLOWED);
    }
    read
}

pub(super) fn weight(written: &mut Written<'_>) -> Option<u16> {
    let read = number(written.get(labels::WEIGHT)?).filter(|weight| (1..=ServerOptions::MAX_WEIGHT).contains(weight));
    if read.is_none() {
        let allowed = format!("a number from 1 to {}", ServerOptions::MAX_WEIGHT);
        written.refuse(Code::BadOption, labels::WEIGHT, "is no weight", &allowed);
    }
    read
}

pub(super) fn max_fails(written: &mut Written<'_>) -> Option<u32> {
    let read = number(written.get(labels::MAX_FAILS)?).filter(|fails| *fails <= MOST_FAILS);
    if read.is_none() {
        let allowed = format!("a number from 0 (never set aside) to {MOST_FAILS}");
        written.refuse(Code::BadOption, labels::MAX_FAILS, "is no number of failures", &allowed);
    }
    read
}

/// nginx counts it in whole seconds, and does not start with `fail_timeout=500ms` [seen on 1.22].
pub(super) fn fail_timeout(written: &mut Written<'_>) -> Option<Duration> {
    let fits = |time: &Duration| units::TIMES.contains(time) && time.subsec_nanos() == 0;
    let read = units::time(written.get(labels::FAIL_TIMEOUT)?).filter(fits);
    if read.is_none() {
        let allowed = "whole seconds such as 10s, 1m30s or 10, from 1s to 1d";
        written.refuse(Code::BadOption, labels::FAIL_TIMEOUT, "is no time", allowed);
    }
    read
}
