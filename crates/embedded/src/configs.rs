//! Config objects, and secrets without their content: nobody could read it.

use model::{ConfigId, InstanceName, SecretId, labels};
use swarm::{Class, Config, Error, EventKind, NewConfig, Result, Secret, limits};

use crate::spec::Spec;
use crate::store::Store;

impl Store {
    pub(crate) fn create_config(&mut self, new: &NewConfig) -> Result<ConfigId> {
        let operation = format!("create config {}", new.name);
        check_object_name(&operation, &new.name)?;
        if new.data.is_empty() || new.data.len() >= self.config_limit {
            let message = format!("config data must be larger than 0 and less than {} bytes", self.config_limit);
            return Err(Error::new(Class::Refused, operation, message));
        }
        if self.configs.values().any(|config| config.name == new.name) {
            let message = format!("config {} already exists", new.name);
            return Err(Error::new(Class::Conflict, operation, message));
        }
        let (id, created_at, version) = (ConfigId::new(self.fresh_id()), self.fresh_time(), self.touch());
        let config = Config {
            id: id.clone(),
            version,
            created_at,
            name: new.name.clone(),
            labels: new.labels.clone(),
            data: new.data.clone(),
        };
        self.configs.insert(id.clone(), config);
        self.emit(EventKind::Object);
        Ok(id)
    }

    pub(crate) fn label_config(&mut self, changed: &Config) -> Result<()> {
        let operation = format!("label config {}", changed.name);
        let Some(config) = self.configs.get(&changed.id) else {
            return Err(Error::new(Class::NotFound, operation, format!("config {} not found", changed.id)));
        };
        if config.name != changed.name || config.data != changed.data {
            return Err(Error::new(Class::Refused, operation, "only updates to Labels are allowed"));
        }
        if config.version != changed.version {
            return Err(Error::new(Class::Conflict, operation, "update out of sequence"));
        }
        let version = self.touch();
        if let Some(config) = self.configs.get_mut(&changed.id) {
            config.labels = changed.labels.clone();
            config.version = version;
        }
        self.emit(EventKind::Object);
        Ok(())
    }

    /// Only current specs protect a config. What an automatic rollback would need can be removed.
    pub(crate) fn remove_config(&mut self, id: &ConfigId) -> Result<()> {
        let operation = format!("remove config {id}");
        let Some(config) = self.configs.get(id) else {
            return Err(Error::new(Class::NotFound, operation, format!("could not find config {id}")));
        };
        self.check_unused(operation, &format!("config '{}'", config.name), |spec| {
            spec.configs.iter().any(|reference| reference.id == id.as_str())
        })?;
        self.configs.remove(id);
        self.touch();
        self.emit(EventKind::Object);
        Ok(())
    }

    pub(crate) fn configs_of(&self, instance: &InstanceName) -> Vec<Config> {
        self.configs
            .values()
            .filter(|config| config.labels.get(labels::INSTANCE).is_some_and(|name| name == instance.as_str()))
            .cloned()
            .collect()
    }
}

impl Store {
    pub(crate) fn create_secret(&mut self, name: &str) -> Result<SecretId> {
        let operation = format!("create secret {name}");
        check_object_name(&operation, name)?;
        if self.secrets.values().any(|known| known == name) {
            return Err(Error::new(Class::Conflict, operation, format!("secret {name} already exists")));
        }
        let id = SecretId::new(self.fresh_id());
        self.secrets.insert(id.clone(), name.to_owned());
        self.touch();
        self.emit(EventKind::Object);
        Ok(id)
    }

    /// Changes nothing that is kept here, as labels are not; and raises an event.
    pub(crate) fn label_secret(&mut self, name: &str) -> Result<()> {
        self.secret_named(&format!("label secret {name}"), name)?;
        self.touch();
        self.emit(EventKind::Object);
        Ok(())
    }

    /// As with configs, only current specs protect it.
    pub(crate) fn remove_secret(&mut self, name: &str) -> Result<()> {
        let operation = format!("remove secret {name}");
        let id = self.secret_named(&operation, name)?;
        self.check_unused(operation, &format!("secret '{name}'"), |spec| {
            spec.secrets.iter().any(|(used, _)| used == id.as_str())
        })?;
        self.secrets.remove(&id);
        self.touch();
        self.emit(EventKind::Object);
        Ok(())
    }

    pub(crate) fn view_secrets(&self) -> Vec<Secret> {
        self.secrets.iter().map(|(id, name)| Secret { id: id.clone(), name: name.clone() }).collect()
    }

    fn secret_named(&self, operation: &str, name: &str) -> Result<SecretId> {
        let found = self.secrets.iter().find(|(_, known)| *known == name).map(|(id, _)| id.clone());
        found.ok_or_else(|| Error::new(Class::NotFound, operation, format!("secret {name} not found")))
    }

    /// Refuses what a service still refers to.
    fn check_unused(&self, operation: String, what: &str, uses: impl Fn(&Spec) -> bool) -> Result<()> {
        let users: Vec<&str> = self
            .services
            .values()
            .filter(|service| uses(&service.spec))
            .map(|service| service.spec.name.as_str())
            .collect();
        if users.is_empty() {
            return Ok(());
        }
        let plural = if users.len() == 1 { "" } else { "s" };
        let message = format!("{what} is in use by the following service{plural}: {}", users.join(", "));
        Err(Error::new(Class::InUse, operation, message))
    }
}

fn check_object_name(operation: &str, name: &str) -> Result<()> {
    if is_object_name(name) {
        return Ok(());
    }
    let message = "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be \
                   [a-zA-Z0-9]";
    Err(Error::new(Class::Refused, operation, message))
}

/// The rule for names of configs and secrets.
fn is_object_name(name: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let (Some(first), Some(last)) = (name.bytes().next(), name.bytes().last()) else { return false };
    name.len() <= limits::NAME
        && name.bytes().all(inside)
        && first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects() {
        let longest = "a".repeat(64);
        for (name, good) in [
            ("a", true),
            ("dovetail.main.proxy.0123", true),
            (longest.as_str(), true),
            (&format!("{longest}a"), false),
            ("", false),
            ("a.", false),
            ("-a", false),
            ("a b", false),
            ("a/b", false),
            ("ä", false),
        ] {
            assert_eq!(is_object_name(name), good, "{name:?}");
        }
    }
}
