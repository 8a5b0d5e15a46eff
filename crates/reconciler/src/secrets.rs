//! Which secrets a service means: labels say them with or without the prefix of its stack.

use model::values::SecretName;
use model::{Code, Options, Problem, SecretId, Secrets, labels};

/// The options with every secret by its whole name, and the secrets' ids.
///
/// # Errors
/// When a secret does not exist.
pub(crate) fn resolve(
    options: &Options,
    stack: Option<&str>,
    known: &imbl::OrdMap<SecretName, SecretId>,
) -> Result<(Options, Secrets), Problem> {
    let mut secrets = Secrets::new();
    let renamed = options.rename_secrets(|name| {
        let in_stack = stack.and_then(|stack| name.in_stack(stack));
        for name in [Some(name.clone()), in_stack.clone()].into_iter().flatten() {
            if let Some(id) = known.get(&name) {
                secrets.insert(name.clone(), id.clone());
                return Ok(name);
            }
        }
        let names = match &in_stack {
            Some(in_stack) => format!("neither {name} nor {in_stack}"),
            None => format!("no {name}"),
        };
        Err(Problem::new(Code::UnknownSecret, format!("there is {names} among the secrets of the swarm"))
            .at(label_of(options, name), name.as_str())
            .allowed("the name of a secret that exists, with or without the prefix of the service's stack"))
    })?;
    Ok((renamed, secrets))
}

/// The label that names this secret.
fn label_of(options: &Options, name: &SecretName) -> &'static str {
    match &options.host.tls {
        Some(model::Tls::Terminate { certificate, .. }) if certificate == name => labels::SSL_CERT,
        Some(model::Tls::Terminate { key, .. }) if key == name => labels::SSL_KEY,
        Some(model::Tls::Terminate { client_ca: Some(authority), .. }) if authority == name => labels::CLIENT_CA_CERT,
        _ => labels::BASIC_AUTH,
    }
}

#[cfg(test)]
mod tests {
    use model::{HostOptions, Tls};

    use super::*;

    fn options(certificate: &str, key: &str) -> Options {
        let tls =
            Tls::Terminate { certificate: certificate.parse().unwrap(), key: key.parse().unwrap(), client_ca: None };
        Options { host: HostOptions { tls: Some(tls), ..HostOptions::default() }, ..Options::default() }
    }

    #[test]
    fn a_secret_is_found_by_its_name_or_within_the_stack() {
        let known = ["app.cert", "shop_app.key", "shop_app.cert"]
            .into_iter()
            .map(|name| (name.parse().unwrap(), SecretId::new(format!("id-{name}"))))
            .collect();
        let (renamed, secrets) = resolve(&options("app.cert", "app.key"), Some("shop"), &known).unwrap();
        let names: Vec<&str> = renamed.secrets().into_iter().map(SecretName::as_str).collect();
        assert_eq!(names, ["app.cert", "shop_app.key"]);
        assert_eq!(secrets[&"shop_app.key".parse().unwrap()].as_str(), "id-shop_app.key");
        let problem = resolve(&options("app.cert", "other"), Some("shop"), &known).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "com.docker.lb.ssl_key=\"other\": there is neither other nor shop_other among the secrets of the swarm (allowed: \
             the name of a secret that exists, with or without the prefix of the service's stack)"
        );
        assert!(resolve(&options("app.cert", "app.key"), None, &known).is_err());
    }
}
