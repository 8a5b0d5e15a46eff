//! The calls of the port, for the journal and for faults.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use model::{ConfigId, InstanceName, ServiceId, TaskId};
use serde_json::Value;
use swarm::{Class, Config, NewConfig, TasksOf};

/// A call to the port, with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// [`swarm::Read::identity`].
    Identity,
    /// [`swarm::Read::services`].
    Services,
    /// [`swarm::Read::tasks`].
    Tasks(TasksOf),
    /// [`swarm::Read::task_history`].
    TaskHistory(ServiceId),
    /// [`swarm::Read::task_log`].
    TaskLog(TaskId),
    /// [`swarm::Read::nodes`].
    Nodes,
    /// [`swarm::Read::network`].
    Network(String),
    /// [`swarm::Read::configs`].
    Configs(InstanceName),
    /// [`swarm::Read::secrets`].
    Secrets,
    /// [`swarm::Read::raw_service`].
    RawService(String),
    /// [`swarm::Read::resolve_image`].
    ResolveImage {
        /// The image.
        image: String,
        /// Whether there were registry credentials.
        auth: bool,
    },
    /// [`swarm::Write::create_config`].
    CreateConfig(NewConfig),
    /// [`swarm::Write::label_config`].
    LabelConfig(Config),
    /// [`swarm::Write::remove_config`].
    RemoveConfig(ConfigId),
    /// [`swarm::Write::create_service`].
    CreateService {
        /// The spec.
        spec: Arc<Value>,
        /// Whether there were registry credentials.
        auth: bool,
    },
    /// [`swarm::Write::update_service`].
    UpdateService {
        /// The service.
        id: ServiceId,
        /// The version that it should have.
        version: u64,
        /// The spec.
        spec: Arc<Value>,
        /// Whether there were registry credentials.
        auth: bool,
    },
    /// [`swarm::Write::remove_service`].
    RemoveService(ServiceId),
    /// [`swarm::Watch::events`], when the stream is first polled.
    Events,
}

/// The name of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Verb {
    Identity,
    Services,
    Tasks,
    TaskHistory,
    TaskLog,
    Nodes,
    Network,
    Configs,
    Secrets,
    RawService,
    ResolveImage,
    CreateConfig,
    LabelConfig,
    RemoveConfig,
    CreateService,
    UpdateService,
    RemoveService,
    Events,
}

impl Call {
    /// The call's name.
    pub fn verb(&self) -> Verb {
        match self {
            Call::Identity => Verb::Identity,
            Call::Services => Verb::Services,
            Call::Tasks(_) => Verb::Tasks,
            Call::TaskHistory(_) => Verb::TaskHistory,
            Call::TaskLog(_) => Verb::TaskLog,
            Call::Nodes => Verb::Nodes,
            Call::Network(_) => Verb::Network,
            Call::Configs(_) => Verb::Configs,
            Call::Secrets => Verb::Secrets,
            Call::RawService(_) => Verb::RawService,
            Call::ResolveImage { .. } => Verb::ResolveImage,
            Call::CreateConfig(_) => Verb::CreateConfig,
            Call::LabelConfig(_) => Verb::LabelConfig,
            Call::RemoveConfig(_) => Verb::RemoveConfig,
            Call::CreateService { .. } => Verb::CreateService,
            Call::UpdateService { .. } => Verb::UpdateService,
            Call::RemoveService(_) => Verb::RemoveService,
            Call::Events => Verb::Events,
        }
    }

    /// Whether it asks for a change.
    pub fn is_write(&self) -> bool {
        match self.verb() {
            Verb::CreateConfig
            | Verb::LabelConfig
            | Verb::RemoveConfig
            | Verb::CreateService
            | Verb::UpdateService
            | Verb::RemoveService => true,
            Verb::Identity
            | Verb::Services
            | Verb::Tasks
            | Verb::TaskHistory
            | Verb::TaskLog
            | Verb::Nodes
            | Verb::Network
            | Verb::Configs
            | Verb::Secrets
            | Verb::RawService
            | Verb::ResolveImage
            | Verb::Events => false,
        }
    }
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When, since the swarm was made.
    pub at: Duration,
    /// What was asked.
    pub call: Call,
    /// What the caller was answered: nothing yet, success, or a failure. Whether a write happened is another
    /// matter: see [`crate::Fault::unanswered`].
    pub answer: Option<Result<(), Class>>,
}

/// The calls so far; the oldest are dropped beyond [`Journal::LIMIT`].
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
}

impl Journal {
    const LIMIT: usize = 100_000;

    /// Writes a call down and answers its number.
    pub fn begin(&mut self, at: Duration, call: Call) -> u64 {
        if self.entries.len() == Self::LIMIT {
            self.entries.pop_front();
            self.first += 1;
        }
        self.entries.push_back(Entry { at, call, answer: None });
        self.first + self.entries.len() as u64 - 1
    }

    pub fn end(&mut self, number: u64, answer: Result<(), Class>) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.answer = Some(answer);
        }
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn clear(&mut self) {
        self.first += self.entries.len() as u64;
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_keeps_the_youngest_and_late_answers_find_their_call() {
        let mut journal = Journal::default();
        let old = journal.begin(Duration::ZERO, Call::Identity);
        for _ in 0..Journal::LIMIT {
            journal.begin(Duration::ZERO, Call::Services);
        }
        let young = journal.begin(Duration::ZERO, Call::Events);
        assert_eq!(journal.entries().count(), Journal::LIMIT);
        journal.end(old, Ok(()));
        journal.end(young, Err(Class::Conflict));
        assert_eq!(journal.entries().last().and_then(|entry| entry.answer), Some(Err(Class::Conflict)));
        journal.clear();
        journal.end(young, Ok(()));
        assert_eq!(journal.entries().count(), 0);
    }
}
