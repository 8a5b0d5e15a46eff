//! What the demo asks of an answer.

use std::net::SocketAddr;

use crate::http::Answer;
pub use crate::http::get;

impl Answer {
    /// A header's value; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A field of a JSON body; empty if it is not there.
    pub fn field(&self, name: &str) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body[name].as_str().unwrap_or_default().to_owned()
    }
}

/// The status of `/ping`; 0 if there is none.
pub async fn status(address: SocketAddr, host: &str) -> u16 {
    get(address, host, "/ping").await.map_or(0, |answer| answer.status)
}
