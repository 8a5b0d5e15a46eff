//! What goes wrong on purpose.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use swarm::{Class, Error};

use crate::Swarm;
use crate::calls::{Call, Verb};

type Predicate = Arc<dyn Fn(&Call) -> bool + Send + Sync>;
type Action = Arc<dyn Fn(&Swarm) + Send + Sync>;

/// Something that goes wrong with calls. By default with every matching one until it is lifted.
///
/// ```
/// # use std::time::Duration;
/// # use dovetail_embedded::{Fault, Swarm, Verb};
/// # use swarm::Class;
/// let swarm = Swarm::new();
/// swarm.inject(Fault::on(Verb::UpdateService).once().fail(Class::Conflict));
/// swarm.inject(Fault::on(Verb::CreateConfig).skip(2).times(3).unanswered());
/// let slow = swarm.inject(Fault::every_write().slow(Duration::from_secs(9)));
/// slow.lift();
/// ```
#[derive(Clone)]
pub struct Fault {
    matches: Predicate,
    skip: u64,
    times: Option<u64>,
    slow: Duration,
    late: Duration,
    first: Option<Action>,
    outcome: Outcome,
}

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    Fail(Class),
    Hang,
    Unanswered,
    Nothing,
}

/// What one call has to go through.
#[derive(Clone)]
pub(crate) struct Ordeal {
    pub slow: Duration,
    pub late: Duration,
    pub first: Option<Action>,
    pub outcome: Outcome,
}

impl Fault {
    /// Calls that a predicate picks. It runs while the swarm is locked: it must not call the swarm.
    pub fn when(matches: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        Self {
            matches: Arc::new(matches),
            skip: 0,
            times: None,
            slow: Duration::ZERO,
            late: Duration::ZERO,
            first: None,
            outcome: Outcome::Pass,
        }
    }

    /// Calls of this name.
    pub fn on(verb: Verb) -> Self {
        Self::when(move |call| call.verb() == verb)
    }

    /// All calls, [`Verb::Events`] included.
    pub fn every_call() -> Self {
        Self::when(|_| true)
    }

    /// All calls that ask for a change.
    pub fn every_write() -> Self {
        Self::when(Call::is_write)
    }

    /// Only the next matching call.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Only the next matching calls.
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Leaves the next matching calls alone, and begins after them.
    pub fn skip(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// The call takes this long to arrive; only then the state is read or written.
    pub fn slow(mut self, by: Duration) -> Self {
        self.slow = by;
        self
    }

    /// The answer takes this long to arrive, and is old by then.
    pub fn late(mut self, by: Duration) -> Self {
        self.late = by;
        self
    }

    /// Somebody does something just before the call arrives: how one loses a race.
    pub fn first(mut self, action: impl Fn(&Swarm) + Send + Sync + 'static) -> Self {
        self.first = Some(Arc::new(action));
        self
    }

    /// The call fails with this class, and nothing happens.
    pub fn fail(mut self, class: Class) -> Self {
        self.outcome = Outcome::Fail(class);
        self
    }

    /// The call is never answered, and nothing happens.
    pub fn hang(mut self) -> Self {
        self.outcome = Outcome::Hang;
        self
    }

    /// The call happens, and the caller is told [`Class::Unreachable`].
    pub fn unanswered(mut self) -> Self {
        self.outcome = Outcome::Unanswered;
        self
    }

    /// A read answers as though there were nothing: no such network, no such service, an empty list. Calls
    /// whose answer cannot be empty are not touched.
    pub fn nothing(mut self) -> Self {
        self.outcome = Outcome::Nothing;
        self
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("outcome", &self.outcome)
            .field("skip", &self.skip)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

/// A fault that is at work.
#[derive(Clone, Debug)]
pub struct Injected {
    pub(crate) swarm: Swarm,
    pub(crate) number: u64,
}

impl Injected {
    /// Ends it.
    pub fn lift(&self) {
        self.swarm.lock(|state| state.faults.lift(self.number));
    }

    /// How many calls it has hit.
    pub fn hits(&self) -> u64 {
        self.swarm.lock(|state| state.faults.hits(self.number))
    }
}

/// The faults at work. The first that matches a call decides.
#[derive(Default)]
pub(crate) struct Faults {
    active: Vec<Active>,
    last: u64,
}

struct Active {
    number: u64,
    fault: Fault,
    hits: u64,
    lifted: bool,
}

impl Faults {
    pub fn inject(&mut self, fault: Fault) -> u64 {
        self.last += 1;
        self.active.push(Active { number: self.last, fault, hits: 0, lifted: false });
        self.last
    }

    pub fn clear(&mut self) {
        for active in &mut self.active {
            active.lifted = true;
        }
    }

    fn lift(&mut self, number: u64) {
        for active in self.active.iter_mut().filter(|active| active.number == number) {
            active.lifted = true;
        }
    }

    fn hits(&self, number: u64) -> u64 {
        self.active.iter().find(|active| active.number == number).map_or(0, |active| active.hits)
    }

    /// What this call has to go through.
    pub fn decide(&mut self, call: &Call) -> Ordeal {
        let mut ordeal = Ordeal { slow: Duration::ZERO, late: Duration::ZERO, first: None, outcome: Outcome::Pass };
        for active in self.active.iter_mut().filter(|active| !active.lifted) {
            let fault = &mut active.fault;
            if !(fault.matches)(call) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if fault.times.is_some_and(|times| active.hits >= times) {
                continue;
            }
            active.hits += 1;
            ordeal = Ordeal { slow: fault.slow, late: fault.late, first: fault.first.clone(), outcome: fault.outcome };
            break;
        }
        ordeal
    }
}

/// The error of a fault.
pub(crate) fn error(class: Class, call: &Call) -> Error {
    Error::new(class, format!("{:?}", call.verb()), "injected")
}
