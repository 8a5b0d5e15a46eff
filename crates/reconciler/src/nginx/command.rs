//! How nginx is told to check its files instead of serving them.

/// How the lines of its output begin that say why it refuses its files. (With `-e /dev/stderr` it says the same once
/// more, with the time and a process number before it.)
pub const REFUSAL: &str = "nginx: [emerg] ";

/// How such a line goes on if a name was not found. Nothing that we render has one, raw lines may; and on the proxies'
/// networks are names that are not known outside.
pub const UNRESOLVED: &str = "host not found";

/// The command that checks what this command would serve: the same with `-t`. It reads every file, opens certificates
/// and keys, and ends; it needs no network. None if the command does not start nginx itself, but a script, say, of which
/// nobody knows what it does with another argument.
pub fn check_command(command: &[String]) -> Option<Vec<String>> {
    let (program, arguments) = command.split_first()?;
    let is_nginx = program == "nginx" || program.ends_with("/nginx");
    is_nginx.then(|| [program.clone(), "-t".to_owned()].into_iter().chain(arguments.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nginx_itself_can_check() {
        for (command, expected) in [
            (&["nginx", "-e", "/dev/stderr"][..], Some(&["nginx", "-t", "-e", "/dev/stderr"][..])),
            (&["/usr/sbin/nginx", "-g", "daemon off;"], Some(&["/usr/sbin/nginx", "-t", "-g", "daemon off;"])),
            (&["/docker-entrypoint.sh", "nginx"], None),
            (&["sh", "-c", "exec nginx"], None),
            (&["openresty-nginx"], None),
            (&[], None),
        ] {
            let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
            assert_eq!(check_command(&owned(command)), expected.map(owned), "{command:?}");
        }
    }
}
