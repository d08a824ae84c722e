//! Which arguments of a command line are secrets, by known programs and by the names of options.

use super::names_secret;

/// Programs and the options by which they take a secret. A `*` ends the beginning of a name.
struct Client {
    names: &'static [&'static str],
    /// The secret is the rest of the option: `-pX`.
    attached: &'static [&'static str],
    /// It is the next argument: `-passphrase X`.
    next: &'static [&'static str],
    /// It is the next argument, or the rest of the option: `-w X`, `-wX`.
    value: &'static [&'static str],
    /// The same, of a user and a secret with this between them: `-u root:X`.
    pair: &'static [(&'static str, char)],
    /// It is known by its position: `htpasswd -b FILE USER X`.
    behind: &'static [PositionalSecret],
}

const fn client(names: &'static [&'static str]) -> Client {
    Client { names, attached: &[], next: &[], value: &[], pair: &[], behind: &[] }
}

/// A secret that has no option of its own.
struct PositionalSecret {
    /// The arguments before it, in this order, with anything between: a word, the end of one (`*x`), its beginning (`x*`),
    /// or a letter among short options (`-b`).
    words: &'static [&'static str],
    /// Arguments without a dash between those and it.
    skip: u8,
    /// Whether it is the next argument and no other; else all that follow are taken for it, since options before it may
    /// have values.
    is_next: bool,
}

const fn behind(words: &'static [&'static str], skip: u8) -> PositionalSecret {
    PositionalSecret { words, skip, is_next: false }
}

const fn next(words: &'static [&'static str]) -> PositionalSecret {
    PositionalSecret { words, skip: 0, is_next: true }
}

/// From the programs' manuals. A long option whose name implies a secret needs no entry.
const CLIENTS: &[Client] = &[
    Client {
        attached: &["-p"],
        ..client(&["mysql*", "mariadb*", "mytop", "innobackupex", "xtrabackup"])
    },
    Client { attached: &["-p", "-hp"], ..client(&["7z", "7za", "7zr", "7zz", "rar", "unrar"]) },
    Client {
        attached: &["/p:", "/gp:"],
        value: &["-p"],
        ..client(&["xfreerdp*", "wlfreerdp*", "rdesktop"])
    },
    Client {
        value: &["-p"],
        ..client(&[
            "sshpass",
            "mongo*",
            "cqlsh",
            "useradd",
            "usermod",
            "ncftp*",
            "rabbitmqadmin",
            "openfortivpn",
            "racadm",
            "veracrypt",
            "twine",
            "hydra",
            "medusa",
            "ncrack",
            "crackmapexec",
            "netexec",
            "nxc",
            "evil-winrm",
            "psexec*",
            "PsExec*",
            "steghide",
            "aescrypt",
            "redfishtool",
            "beeline",
            "add-user.sh",
            "tpm2_*",
        ])
    },
    Client { behind: &[behind(&["test"], 1)], value: &["-p"], ..client(&["doveadm"]) },
    Client { value: &["-w", "-s", "-a"], ..client(&["ldappasswd"]) },
    Client { value: &["-s"], ..client(&["slappasswd"]) },
    Client { value: &["-w"], ..client(&["ldap*", "dsconf", "dsidm", "smbpasswd"]) },
    Client {
        value: &["-w"],
        next: &["-pw"],
        ..client(&["kadmin*", "addprinc", "add_principal", "ank", "cpw", "change_password"])
    },
    Client { value: &["-N", "-P"], ..client(&["ssh-keygen"]) },
    Client { value: &["-w", "-a", "-p"], ..client(&["ipa-*"]) },
    Client { value: &["--pin", "--so-pin", "--new-pin", "-p"], ..client(&["pkcs11-tool"]) },
    Client { value: &["-C"], ..client(&["openconnect"]) },
    Client { value: &["-K"], ..client(&["swift", "ccrypt", "ccencrypt", "ccdecrypt"]) },
    Client { value: &["-k"], ..client(&["mcrypt", "mdecrypt"]) },
    Client { value: &["-y"], ..client(&["nsupdate", "dig", "delv", "host", "rndc-confgen"]) },
    Client { value: &["-E"], ..client(&["tcpdump"]) },
    Client { value: &["-w"], ..client(&["security"]) },
    Client { value: &["-H"], ..client(&["crackmapexec", "netexec", "nxc", "evil-winrm"]) },
    Client { value: &["-t"], ..client(&["fly", "flyctl", "vercel", "doctl"]) },
    Client { next: &["/rp"], ..client(&["schtasks*"]) },
    Client { value: &["-N", "-P"], ..client(&["yubico-piv-tool"]) },
    Client { pair: &[("--user", ':')], ..client(&["etcdctl"]) },
    Client { behind: &[behind(&[], 1)], ..client(&["radtest"]) },
    Client { behind: &[next(&["password"])], ..client(&["pppd"]) },
    Client { behind: &[next(&["password="])], ..client(&["sc", "sc.exe"]) },
    Client { behind: &[next(&["PIN"])], ..client(&["gammu"]) },
    Client { behind: &[behind(&["*.password", "-v"], 0)], ..client(&["iscsiadm"]) },
    Client { value: &["--key"], ..client(&["ceph*", "rbd", "rados", "gem"]) },
    Client {
        value: &["--session"],
        behind: &[behind(&["unlock"], 0), behind(&["login"], 1)],
        ..client(&["bw"])
    },
    Client { value: &["--session"], ..client(&["op"]) },
    Client { value: &["--value"], ..client(&["az"]) },
    Client { next: &["-xp"], ..client(&["sendemail", "sendEmail"]) },
    Client { pair: &[("-a", ':')], ..client(&["http", "https", "xh", "xhs"]) },
    Client {
        pair: &[("", ':')],
        ..client(&[
            "mysqlsh",
            "impacket-*",
            "psexec.py",
            "smbexec.py",
            "wmiexec.py",
            "atexec.py",
            "dcomexec.py",
            "secretsdump.py",
        ])
    },
    Client { behind: &[behind(&["--secret"], 1)], ..client(&["pulumi"]) },
    Client { behind: &[next(&["*pypi-token*"])], ..client(&["poetry"]) },
    Client {
        behind: &[
            behind(&["config", "http-basic*"], 1),
            behind(&["config", "*-oauth*"], 0),
            behind(&["config", "*-token*"], 0),
        ],
        ..client(&["composer"])
    },
    Client {
        behind: &[behind(&["alias", "set"], 3), behind(&["host", "add"], 3)],
        ..client(&["mc", "mcli"])
    },
    Client { behind: &[behind(&["reset-admin-password"], 0)], ..client(&["grafana*"]) },
    Client { behind: &[behind(&["upwd"], 1), behind(&["user:password"], 1)], ..client(&["drush"]) },
    Client {
        behind: &[behind(&["secret-set-value"], 1), behind(&["set-user-password"], 2)],
        ..client(&["virsh"])
    },
    Client { next: &["-upw", "-opw"], ..client(&["pdf*"]) },
    Client {
        behind: &[next(&["input_pw"]), next(&["user_pw"]), next(&["owner_pw"])],
        ..client(&["pdftk"])
    },
    Client { behind: &[behind(&["--encrypt"], 0)], ..client(&["qpdf"]) },
    Client { behind: &[behind(&["-b"], 2), behind(&["-n"], 1)], ..client(&["htpasswd"]) },
    Client { behind: &[behind(&["-b"], 2)], ..client(&["mosquitto_passwd"]) },
    Client { behind: &[behind(&[], 1)], ..client(&["wpa_passphrase"]) },
    Client { behind: &[behind(&[], 0)], ..client(&["mkpasswd"]) },
    Client { behind: &[behind(&["password"], 0)], ..client(&["mysqladmin", "mariadb-admin"]) },
    Client {
        behind: &[behind(&["use", "\\\\*"], 0), behind(&["user"], 1)],
        ..client(&["net", "net.exe"])
    },
    Client { behind: &[next(&["//*"]), next(&["\\\\*"])], ..client(&["smbclient"]) },
    Client {
        behind: &[
            behind(&["login"], 0),
            behind(&["token", "lookup"], 0),
            behind(&["token", "renew"], 0),
            behind(&["token", "revoke"], 0),
            behind(&["token", "capabilities"], 0),
            behind(&["unwrap"], 0),
            behind(&["unseal"], 0),
            behind(&["write"], 1),
            behind(&["kv", "put"], 1),
            behind(&["kv", "patch"], 1),
        ],
        ..client(&["vault", "bao"])
    },
    Client { behind: &[behind(&["encrypt_string"], 0)], ..client(&["ansible-vault"]) },
    Client {
        behind: &[
            behind(&["add_user"], 1),
            behind(&["change_password"], 1),
            behind(&["authenticate_user"], 1),
        ],
        ..client(&["rabbitmqctl"])
    },
    Client { behind: &[behind(&["user", "add"], 0)], ..client(&["etcdctl"]) },
    Client { behind: &[behind(&["login"], 0)], ..client(&["cargo"]) },
    Client {
        behind: &[behind(&["authtoken"], 0), behind(&["add-authtoken"], 0)],
        ..client(&["ngrok"])
    },
    Client {
        behind: &[behind(&["obscure"], 0), next(&["pass"]), next(&["password"])],
        ..client(&["rclone"])
    },
    Client {
        value: &["--secret-string", "--value"],
        behind: &[next(&["*secret_access_key"]), next(&["*session_token"])],
        ..client(&["aws"])
    },
    Client {
        behind: &[
            next(&["password"]),
            next(&["*.psk"]),
            next(&["*.password"]),
            next(&["*.wep-key*"]),
        ],
        ..client(&["nmcli"])
    },
    Client { behind: &[next(&["key"])], ..client(&["iwconfig", "iw"]) },
    Client { behind: &[next(&["psk"]), next(&["password"])], ..client(&["wpa_cli"]) },
    Client { behind: &[next(&["using"])], ..client(&["db2"]) },
    Client { value: &["--from-literal"], ..client(&["kubectl", "oc"]) },
    Client {
        value: &["--body", "-b"],
        behind: &[behind(&["secret", "set"], 1)],
        ..client(&["gh"])
    },
    Client { value: &["--plaintext", "-p"], ..client(&["caddy"]) },
    // A whole script, in letters that show nothing of what is in it.
    Client { next: &["-e", "-ec", "-en", "-enc*", "--enc*"], ..client(&["pwsh*", "powershell*"]) },
    Client {
        value: &[
            "-E",
            "--cert",
            "--proxy-cert",
            "--oauth2-bearer",
            "-b",
            "--cookie",
            "--tlspassword",
        ],
        pair: &[("-u", ':'), ("-U", ':'), ("--user", ':'), ("--proxy-user", ':')],
        ..client(&["curl"])
    },
    Client {
        value: &["-a"],
        behind: &[behind(&["AUTH"], 0), behind(&["auth"], 0)],
        ..client(&["redis-cli", "redis-benchmark", "valkey-cli", "keydb-cli"])
    },
    Client {
        pair: &[("-U", '%'), ("--user", '%')],
        ..client(&[
            "smbclient",
            "smbget",
            "smbcacls",
            "smbtree",
            "rpcclient",
            "net",
            "nmblookup",
            "winexe",
            "wmic",
        ])
    },
    Client {
        pair: &[("-U", '%'), ("--user", '%')],
        behind: &[behind(&["user", "create"], 1), behind(&["user", "add"], 1)],
        ..client(&["samba-tool"])
    },
    Client {
        next: &["-k", "-K", "-hmac", "-macopt"],
        behind: &[behind(&["passwd"], 0)],
        ..client(&["openssl"])
    },
    Client {
        value: &["-P"],
        ..client(&[
            "zip",
            "unzip",
            "zipcloak",
            "sqlcmd",
            "bcp",
            "isql",
            "osql",
            "tsql",
            "mosquitto_*",
        ])
    },
    Client {
        value: &["-P", "-k"],
        behind: &[behind(&["set", "password"], 1)],
        ..client(&["ipmitool", "ipmi*"])
    },
    Client { value: &["-c", "-A", "-X"], ..client(&["snmp*"]) },
    Client { next: &["-pw"], ..client(&["plink", "pscp", "psftp", "putty"]) },
    Client { next: &["-ap"], ..client(&["swaks"]) },
    Client { value: &["-p", "-t"], ..client(&["influx*"]) },
    Client { pair: &[("-u", ',')], ..client(&["lftp"]) },
    Client { pair: &[("", '/')], ..client(&["sqlplus*", "expdp", "impdp", "rman", "sqlldr"]) },
    // Where they stand before "login"; else `-p` names a port.
    Client {
        value: &["-p"],
        ..client(&["docker", "podman", "helm", "skopeo", "buildah", "nerdctl", "az", "oc"])
    },
];

/// Those of the last line of [`CLIENTS`].
const LOGS_IN: u128 = 1 << (CLIENTS.len() - 1);
/// All [`PositionalSecret`] of all of them.
const BEHIND: usize = {
    let (mut sum, mut number) = (0, 0);
    while number < CLIENTS.len() {
        sum += CLIENTS[number].behind.len();
        number += 1;
    }
    sum
};
/// Its only `-p` is followed by the command line of another program.
const SSHPASS: &str = "sshpass";

/// Options of any program behind which a user and a secret stand.
const PAIRS: &[&str] =
    &["-u", "--user", "--proxy-user", "--proxy-auth", "--creds", "--auth", "-auth"];
/// Verbs behind which a setting and its value stand (`git config user.password X`).
const SETTERS: &[&str] = &["config", "set", "user-secrets"];
/// Words behind which a secret stands in an argument of its own, without a dash (`nmcli … password X`).
const WORDS: &[&str] = &["password", "passwd", "passphrase", "psk", "secret"];

/// Programs of which "secret" is a command (`gh secret set NAME`), or a kind of thing (`kubectl get secret NAME`).
const KEEPERS: &[&str] =
    &["gh", "glab", "kubectl", "oc", "docker", "podman", "nomad", "gcloud", "az", "heroku"];

/// The meaning of the next argument.
#[derive(Clone, Copy)]
enum Next {
    Any,
    Secret,
    /// A user and a secret; whether this is known, or it only looks like it.
    Pair(char, bool),
}

/// How far the arguments have come of one [`PositionalSecret`].
#[derive(Clone, Copy, Default)]
struct Seen {
    words: u8,
    skipped: u8,
}

/// Looks at the arguments of a command line, one after the other.
pub(super) struct Arguments {
    /// The [`CLIENTS`] seen so far, one bit each. More than one where one starts the other.
    clients: u128,
    /// Of each [`PositionalSecret`], in the order of the clients.
    seen: [Seen; BEHIND],
    has_login: bool,
    /// One of [`KEEPERS`] was there.
    keeps_secrets: bool,
    /// One of [`SETTERS`] was there.
    sets: bool,
    is_first: bool,
    /// Whether an argument is known to end where it ends, and not only by a space.
    is_exact: bool,
    next: Next,
}

impl Arguments {
    pub(super) fn new(is_exact: bool) -> Self {
        let seen = [Seen::default(); BEHIND];
        Self {
            clients: 0,
            seen,
            has_login: false,
            keeps_secrets: false,
            sets: false,
            is_first: true,
            is_exact,
            next: Next::Any,
        }
    }

    /// From which byte on `argument` is a secret.
    pub(super) fn secret(&mut self, argument: &str) -> Option<usize> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        let behind = match std::mem::replace(&mut self.next, Next::Any) {
            Next::Any => None,
            Next::Secret => (!argument.is_empty()).then_some(0),
            Next::Pair(between, is_known) => pair(argument, between, is_known),
        };
        if self.clients != 0 && self.is_in_place(argument) {
            return Some(0);
        }
        if !argument.starts_with('-') && !argument.starts_with("//") {
            self.meet(argument);
        }
        if let Some(start) = self.option(argument) {
            return Some(behind.map_or(start, |behind| behind.min(start)));
        }
        if behind.is_none() && self.sets && is_setting(argument) {
            self.next = Next::Secret;
        }
        self.sets |= SETTERS.contains(&argument);
        if self.is_exact && behind.is_none() {
            if let Some(start) = named(argument) {
                return Some(start);
            }
            let is_word = !is_first
                && WORDS.iter().any(|word| word.eq_ignore_ascii_case(argument))
                && !(self.keeps_secrets && argument == "secret");
            if is_word || argument.starts_with('-') && is_telling_option(argument) {
                self.next = Next::Secret;
            }
        }
        behind
    }

    /// Whether `argument` is a secret by what stands before it.
    fn is_in_place(&mut self, argument: &str) -> bool {
        let is_option = argument.starts_with('-');
        let (mut is_secret, mut at) = (false, 0);
        for (number, client) in CLIENTS.iter().enumerate() {
            let seen = &mut self.seen[at..at + client.behind.len()];
            at += seen.len();
            if self.clients >> number & 1 == 0 {
                continue;
            }
            for (rule, seen) in client.behind.iter().zip(seen) {
                match rule.words.get(usize::from(seen.words)) {
                    Some(word) => seen.words += u8::from(is_word(argument, word)),
                    None if is_option && rule.is_next => *seen = Seen::default(),
                    None if is_option => {}
                    None if seen.skipped < rule.skip => seen.skipped += 1,
                    None => {
                        is_secret |= !argument.is_empty();
                        if rule.is_next {
                            *seen = Seen::default();
                        }
                    }
                }
            }
        }
        is_secret
    }

    /// A line of a shell begins another command.
    pub(super) fn another(&mut self) {
        *self = Self::new(self.is_exact);
    }

    /// `word` may be the name of a program.
    fn meet(&mut self, word: &str) {
        let name = word.rsplit_once('/').map_or(word, |path| path.1);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return;
        }
        self.has_login |= name == "login";
        self.keeps_secrets |= KEEPERS.contains(&name);
        let first = name.as_bytes().first();
        for (number, client) in CLIENTS.iter().enumerate() {
            // The first letter first: it is another for most words.
            let is_this = |known: &&str| {
                known.as_bytes().first() == first
                    && match known.strip_suffix('*') {
                        Some(beginning) => name.starts_with(beginning),
                        None => name == *known,
                    }
            };
            if client.names.iter().any(is_this) {
                self.clients |= 1 << number;
            }
        }
    }

    /// The secret in an option, or that one follows.
    fn option(&mut self, argument: &str) -> Option<usize> {
        // An object of QEMU.
        if let Some(at) = argument.find("data=").filter(|_| argument.starts_with("secret,")) {
            return Some(at + 5);
        }
        if self.clients == 0 && !argument.starts_with('-') {
            return None;
        }
        let clients = if self.has_login { self.clients } else { self.clients & !LOGS_IN };
        for (number, client) in
            CLIENTS.iter().enumerate().filter(|(number, _)| clients >> number & 1 == 1)
        {
            if let Some(option) =
                client.attached.iter().find(|option| argument.starts_with(**option))
                && argument.len() > option.len()
            {
                return Some(option.len());
            }
            if client.next.iter().any(|option| is_option(argument, option)) {
                self.next = Next::Secret;
                return None;
            }
            for option in client.value {
                if is_long(argument) {
                    break;
                }
                match matched(argument, option) {
                    Some(Matched::Alone) => {
                        self.next = Next::Secret;
                        if client.names.contains(&SSHPASS) {
                            self.clients &= !(1 << number);
                        }
                        return None;
                    }
                    Some(Matched::With(start)) => return Some(start),
                    None => {}
                }
            }
            for (option, between) in client.pair {
                if option.is_empty() {
                    let is_pair = !argument.starts_with(['-', '/', '@', '.']);
                    if let Some(at) = argument.find(*between).filter(|_| is_pair) {
                        return Some(at + 1);
                    }
                } else if let Some(found) = matched(argument, option).or(within(argument, option)) {
                    return self.pair(argument, found, *between, true);
                }
            }
        }
        for option in PAIRS {
            if let Some(found) = matched(argument, option) {
                return self.pair(argument, found, ':', false);
            }
        }
        // `-pX` of an unknown program: neither a number nor a word.
        let rest = argument.strip_prefix("-p")?;
        let is_mixed = rest.contains(|c: char| c.is_ascii_digit())
            && rest.contains(|c: char| c.is_ascii_alphabetic())
            && !rest.contains(['/', '=', ':', '.']);
        (is_mixed && rest.len() >= 6).then_some(2)
    }

    fn pair(
        &mut self,
        argument: &str,
        found: Matched,
        between: char,
        is_known: bool,
    ) -> Option<usize> {
        match found {
            Matched::Alone => {
                self.next = Next::Pair(between, is_known);
                None
            }
            Matched::With(start) => {
                pair(&argument[start..], between, is_known).map(|at| start + at)
            }
        }
    }
}

/// Whether `argument` is what a [`PositionalSecret`] calls `word`.
fn is_word(argument: &str, word: &str) -> bool {
    match word.as_bytes() {
        [b'-', letter] => {
            argument.starts_with('-')
                && !argument.starts_with("--")
                && argument.as_bytes().contains(letter)
        }
        [b'*', .., b'*'] => argument.contains(&word[1..word.len() - 1]),
        [b'*', ..] => argument.ends_with(&word[1..]),
        [.., b'*'] => argument.starts_with(&word[..word.len() - 1]),
        _ => argument == word,
    }
}

/// Whether `argument` is `option`, in any case; one that ends with `*` may be longer.
fn is_option(argument: &str, option: &str) -> bool {
    let begins = |known: &str| {
        argument.get(..known.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(known))
    };
    match option.strip_suffix('*') {
        Some(known) => begins(known),
        None => argument.len() == option.len() && begins(option),
    }
}

/// How an argument is an option.
enum Matched {
    Alone,
    /// Its value begins here.
    With(usize),
}

/// Whether `argument` is `option`: by itself (`-w`, as the last of several letters, `-xw`), with a value behind `=`, or, of
/// one letter, with one at once.
fn matched(argument: &str, option: &str) -> Option<Matched> {
    let (begins, ends) = (argument.as_bytes().get(1), argument.as_bytes().last());
    if begins != option.as_bytes().get(1) && ends != option.as_bytes().last() {
        return None;
    }
    if argument == option {
        return Some(Matched::Alone);
    }
    let is_letter = option.len() == 2;
    if let Some(rest) = argument.strip_prefix(option) {
        return match (rest.starts_with('='), is_letter) {
            (true, _) => Some(Matched::With(option.len() + 1)),
            (false, true) => Some(Matched::With(option.len())),
            _ => None,
        };
    }
    let letters = argument.strip_prefix('-')?;
    let is_last = is_letter && letters.len() < 6 && letters.ends_with(&option[1..]);
    (is_last && letters.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some(Matched::Alone)
}

/// The same where other letters stand before it, and its value behind: `-sSuann:X`.
fn within(argument: &str, option: &str) -> Option<Matched> {
    let [b'-', letter] = option.as_bytes() else { return None };
    let letters = argument.strip_prefix('-')?.bytes().take_while(u8::is_ascii_alphabetic);
    let at = letters.into_iter().position(|one| one == *letter)?;
    Some(Matched::With(at + 2))
}

/// Where the secret of `USER:SECRET` begins. Where it is not known to be one, numbers are a user and a group, and
/// behind a scheme stands a host.
fn pair(value: &str, between: char, is_known: bool) -> Option<usize> {
    let at = value.find(between)?;
    let secret = &value[at + between.len_utf8()..];
    let is_likely = !secret.bytes().all(|byte| byte.is_ascii_digit()) && !secret.starts_with('/');
    (!secret.is_empty() && (is_known || is_likely)).then_some(at + between.len_utf8())
}

/// Where the secret of `NAME=SECRET` begins, all of an argument behind a telling name.
fn named(argument: &str) -> Option<usize> {
    let at = memchr::memchr2(b'=', b':', argument.as_bytes())?;
    let name = argument[..at].trim_end();
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let has_value = argument.len() > at + 1;
    (has_value && !name.is_empty() && name.chars().all(is_name) && names_secret(name))
        .then_some(at + 1)
}

/// Whether this is the name of a setting that is a secret, and not only a word: `user.password`, `_authToken`.
fn is_setting(argument: &str) -> bool {
    let is_name =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'_' | b'-');
    argument.contains(['.', ':', '_', '-'])
        && !argument.starts_with('-')
        && argument.bytes().all(is_name)
        && names_secret(argument)
        || argument.ends_with("AuthToken")
}

/// Whether this is a long option with one dash (`-password`), and not one letter with a value.
fn is_long(argument: &str) -> bool {
    ["-password", "-passwd", "-passphrase", "-pass", "-token", "-secret"].contains(&argument)
}

/// `--password`, but not `--no-password` or `--ask-pass`, which take none.
fn is_telling_option(argument: &str) -> bool {
    let name = argument.trim_start_matches('-');
    names_secret(argument)
        && !["no-", "ask-", "skip-", "without-"].iter().any(|begin| name.starts_with(begin))
}
