//! Events.

use model::ServiceId;
use serde::Deserialize;
use swarm::EventKind;

use super::{Decoded, json};

/// `None`: an event that is nothing to us.
pub(crate) fn event(line: &[u8]) -> Decoded<Option<EventKind>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        r#type: Option<String>,
        actor: Option<Actor>,
    }
    #[derive(Deserialize)]
    struct Actor {
        #[serde(rename = "ID")]
        id: Option<String>,
    }
    let Wire { r#type, actor } = json(line)?;
    Ok(match r#type.as_deref() {
        Some("service") => {
            let id = actor.and_then(|actor| actor.id).filter(|id| !id.is_empty());
            Some(EventKind::Service(ServiceId::new(id.ok_or("an event of a service without its id")?)))
        }
        Some("node") => Some(EventKind::Node),
        Some("network") => Some(EventKind::Network),
        Some("config" | "secret") => Some(EventKind::Object),
        _ => None,
    })
}
