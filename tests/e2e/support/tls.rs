//! TLS as its users see it: certificates by openssl, requests by curl, what a server shows by openssl.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::load::Answer;

/// The port at which the proxies' TLS is published, unless a scenario says otherwise.
pub const PORT: u16 = 8443;

/// Files with a certificate and its key.
pub struct Certificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Certificate {
    /// A certificate that signs itself, for these names; the first is its common name.
    pub async fn make(directory: &Path, file: &str, names: &[&str]) -> Result<Self> {
        let made = Self::at(directory, file);
        let alternatives: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN={}", names[0]),
            "-addext",
            &format!("subjectAltName={}", alternatives.join(",")),
            "-keyout",
            path(&made.key),
            "-out",
            path(&made.certificate),
        ])
        .await?;
        Ok(made)
    }

    /// A client's certificate that `self` signs.
    pub async fn sign(&self, directory: &Path, file: &str) -> Result<Self> {
        let made = Self::at(directory, file);
        let request = directory.join(format!("{file}.csr"));
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &format!("/CN={file}"),
            "-keyout",
            path(&made.key),
            "-out",
            path(&request),
        ])
        .await?;
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            path(&request),
            "-CA",
            path(&self.certificate),
            "-CAkey",
            path(&self.key),
            "-CAcreateserial",
            "-out",
            path(&made.certificate),
        ])
        .await?;
        Ok(made)
    }

    fn at(directory: &Path, file: &str) -> Self {
        Self { certificate: directory.join(format!("{file}.cert")), key: directory.join(format!("{file}.key")) }
    }
}

/// A path of the test as an argument of a program.
pub fn path(path: &Path) -> &str {
    path.to_str().expect("the test's paths are text")
}

async fn openssl(arguments: &[&str]) -> Result<()> {
    let output = run("openssl", arguments).await?;
    if !output.status.success() {
        bail!("openssl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// One HTTPS request by curl, at any of these nodes that is reached; `more` are arguments of curl.
pub async fn get(nodes: &[String], host: &str, url_path: &str, more: &[&str]) -> Result<Answer> {
    let resolve = format!("{host}:{PORT}:{}", nodes.join(","));
    let url = format!("https://{host}:{PORT}{url_path}");
    let fixed = ["-sS", "-k", "-i", "--http1.1", "--max-time", "15", "--resolve", &resolve];
    let output = run("curl", &[&fixed[..], more, &[&url]].concat()).await?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").context("a response has a head")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("a response has a status")?.parse()?;
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Ok(Answer { status, headers, body: body.to_owned() })
}

/// The subject of the certificate that a node shows for a name; none: the handshake is refused.
pub async fn subject(node: &str, name: Option<&str>) -> Result<Option<String>> {
    let address = format!("{node}:{PORT}");
    let by_name = match name {
        Some(name) => vec!["-servername", name],
        None => vec!["-noservername"],
    };
    let output = run("openssl", &[&["s_client", "-connect", &address][..], &by_name].concat()).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().find_map(|line| line.strip_prefix("subject=")).map(|subject| subject.trim().to_owned()))
}

async fn run(program: &str, arguments: &[&str]) -> Result<Output> {
    let command = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), command).await;
    ended.with_context(|| format!("{program} ends within 20 s"))?.with_context(|| format!("start {program}"))
}
