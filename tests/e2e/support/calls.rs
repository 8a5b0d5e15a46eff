//! What went to the Engine: written down by whatever stands in front of it.

use std::sync::Mutex;

use hyper::{Method, StatusCode};

/// One call to the Engine.
#[derive(Clone, Debug)]
pub struct Call {
    /// GET, POST, DELETE.
    pub method: Method,
    /// The path without the API version and the query.
    pub path: String,
    /// What the Engine answered, if it did.
    pub status: Option<StatusCode>,
}

impl Call {
    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        self.method != Method::GET && self.method != Method::HEAD
    }
}

/// The calls so far.
#[derive(Debug, Default)]
pub struct Calls(Mutex<Vec<Call>>);

impl Calls {
    /// Writes down a call that comes in. Answers its place, for [`Calls::answered`].
    pub fn came(&self, method: &Method, path: &str) -> usize {
        let mut calls = self.0.lock().expect("no panic while recording");
        calls.push(Call { method: method.clone(), path: path.to_owned(), status: None });
        calls.len() - 1
    }

    /// Writes down its answer. The list may have been cleared meanwhile; then the call belongs to what is forgotten.
    pub fn answered(&self, place: usize, status: StatusCode) {
        if let Some(call) = self.0.lock().expect("no panic while recording").get_mut(place) {
            call.status = Some(status);
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<Call> {
        self.0.lock().expect("no panic while recording").clone()
    }

    /// Those that change something.
    pub fn writes(&self) -> Vec<Call> {
        self.all().into_iter().filter(Call::is_write).collect()
    }

    /// Forgets them.
    pub fn clear(&self) {
        self.0.lock().expect("no panic while recording").clear();
    }
}

/// `/v1.41/services/x` and `/services/x` are the same call.
pub fn without_version(path: &str) -> String {
    match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
        Some((_, rest)) => format!("/{rest}"),
        None => path.to_owned(),
    }
}
