//! Secrets of well-known programs, as the arguments of a process and as lines of a shell.
#![allow(clippy::unwrap_used)]

use infiniservice::redact::{REDACTED, redact, redact_arguments};

const CANARY: &str = "h7Ntr2xx";

/// Command lines, with `|` between arguments.
const SECRETS: &[&str] = &[
    "htpasswd|-b|/etc/users|ann|h7Ntr2xx",
    "htpasswd|-cbB|-C|10|users|ann|h7Ntr2xx",
    "htpasswd|-nb|ann|h7Ntr2xx",
    "htpasswd|-n|-b|ann|h7Ntr2xx",
    "mosquitto_passwd|-b|users|ann|h7Ntr2xx",
    "mosquitto_pub|-u|ann|-P|h7Ntr2xx|-t|x",
    "wpa_passphrase|net|h7Ntr2xx",
    "wpa_cli|set_network|0|psk|h7Ntr2xx",
    "nmcli|dev|wifi|connect|lab|password|h7Ntr2xx",
    "nmcli|con|modify|lab|wifi-sec.psk|h7Ntr2xx",
    "iwconfig|wlan0|key|h7Ntr2xx",
    "mysql|-u|ann|-ph7Ntr2xx",
    "mysqladmin|-u|root|password|h7Ntr2xx",
    "sshpass|-p|h7Ntr2xx|ssh|lab",
    "sshpass|-ph7Ntr2xx|ssh|lab",
    "curl|-u|ann:h7Ntr2xx|https://lab",
    "curl|--user|ann:h7Ntr2xx|https://lab",
    "curl|-sSfuann:h7Ntr2xx|https://lab",
    "curl|-H|Authorization: Bearer h7Ntr2xx|https://lab",
    "curl|-H|Authorization: token h7Ntr2xx|https://lab",
    "curl|-HX-Api-Key: h7Ntr2xx|https://lab",
    "curl|-d|{\"password\":\"h7Ntr2xx\"}|https://lab",
    "curl|-d|{\"user\": \"a\", \"password\" : \"a h7Ntr2xx\"}|https://lab",
    "curl|-d|<user><password>h7Ntr2xx</password></user>|https://lab",
    "openssl|pkcs12|-passin|pass:h7Ntr2xx",
    "openssl|rsa|-aes256|-passout|pass:h7Ntr2xx",
    "openssl|enc|-pass|pass:h7Ntr2xx",
    "openssl|passwd|-6|h7Ntr2xx",
    "mkpasswd|h7Ntr2xx",
    "mkpasswd|-m|sha-512|h7Ntr2xx",
    "ansible-vault|encrypt_string|h7Ntr2xx|--name|key",
    "ansible|all|-e|ansible_become_pass=h7Ntr2xx",
    "smbclient|//lab/net|-U|ann%h7Ntr2xx",
    "smbclient|//lab/net|h7Ntr2xx|-U|ann",
    "net|use|X:|\\\\lab\\share|h7Ntr2xx|/user:ann",
    "net|use|\\\\lab\\share|/user:ann|h7Ntr2xx",
    "net|user|ann|h7Ntr2xx|/add",
    "net|ads|join|-U|ann%h7Ntr2xx",
    "redis-cli|-h|lab|-a|h7Ntr2xx|ping",
    "redis-cli|--pass|h7Ntr2xx",
    "env|REDISCLI_AUTH=h7Ntr2xx|redis-cli",
    "mongo|-u|ann|-p|h7Ntr2xx",
    "mongosh|--password|h7Ntr2xx",
    "mongodump|--uri=mongodb://ann:h7Ntr2xx@lab/db",
    "psql|postgresql://ann:h7Ntr2xx@lab/db",
    "psql|host=lab user=ann password=h7Ntr2xx",
    "docker|login|-u|ann|-p|h7Ntr2xx",
    "docker|login|-u|ann|--password=h7Ntr2xx|registry.lab",
    "podman|login|-ph7Ntr2xx|-u|ann|registry.lab",
    "az|login|--service-principal|-u|ann|-p|h7Ntr2xx",
    "az|storage|blob|list|--account-key|h7Ntr2xx",
    "vault|login|h7Ntr2xx",
    "vault|login|-method=userpass|username=ann|password=h7Ntr2xx",
    "vault|token|revoke|h7Ntr2xx",
    "vault|token|create|-id=x|-token=h7Ntr2xx",
    "vault|operator|unseal|h7Ntr2xx",
    "vault|kv|put|secret/net|key=h7Ntr2xx",
    "sudo|-u|vault|htpasswd|-b|users|ann|h7Ntr2xx",
    "env|VAULT_TOKEN=h7Ntr2xx|vault|status",
    "env|AWS_SECRET_ACCESS_KEY=h7Ntr2xx|aws|s3|ls",
    "aws|configure|set|default.aws_secret_access_key|h7Ntr2xx",
    "rabbitmqctl|add_user|ann|h7Ntr2xx",
    "etcdctl|user|add|root:h7Ntr2xx",
    "cargo|login|h7Ntr2xx",
    "ngrok|config|add-authtoken|h7Ntr2xx",
    "rclone|obscure|h7Ntr2xx",
    "ipmitool|-H|lab|user|set|password|2|h7Ntr2xx",
    "ipmitool|-H|lab|-U|ann|-P|h7Ntr2xx|power|status",
    "db2|connect|to|shop|user|ann|using|h7Ntr2xx",
    "kubectl|create|secret|generic|x|--from-literal=key=h7Ntr2xx",
    "kubectl|config|set-credentials|ann|--token=h7Ntr2xx",
    "gh|secret|set|NAME|--body|h7Ntr2xx",
    "gh|secret|set|NAME|-b|h7Ntr2xx",
    "twine|upload|-u|__token__|-p|h7Ntr2xx",
    "ssh-keygen|-t|ed25519|-N|h7Ntr2xx|-f|key",
    "slappasswd|-s|h7Ntr2xx",
    "smbpasswd|-w|h7Ntr2xx",
    "kadmin|-p|ann|-w|h7Ntr2xx",
    "kadmin.local|-q|addprinc -pw h7Ntr2xx ann",
    "pdftotext|-upw|h7Ntr2xx|a.pdf",
    "qpdf|--encrypt|h7Ntr2xx|h7Ntr2xx|256|--|a.pdf|b.pdf",
    "doveadm|auth|test|ann|h7Ntr2xx",
    "gpg|--batch|--passphrase|h7Ntr2xx|-c|a",
    "wget|--http-password=h7Ntr2xx|https://lab",
    "git|-c|http.extraHeader=Authorization: Basic h7Ntr2xx|fetch",
    "pip|install|--index-url|https://ann:h7Ntr2xx@pypi.lab/simple|x",
    "npm|config|set|//registry.lab/:_authToken=h7Ntr2xx",
    "terraform|apply|-var|db_password=h7Ntr2xx",
    "terraform|apply|-var=db_password=h7Ntr2xx",
    "mount|-o|username=ann,password=h7Ntr2xx|//lab/share|/mnt",
    "xfreerdp|/u:ann|/p:h7Ntr2xx|/v:lab",
    "ldapsearch|-D|cn=ann|-w|h7Ntr2xx",
    "lftp|-u|ann,h7Ntr2xx|lab",
    "sqlplus|ann/h7Ntr2xx@shop",
    "x|npm_h7Ntr2xxABCDEFGHIJ",
];

/// In a shell, an argument with a blank or a sign of its own stands in quotes.
fn as_shell(line: &str) -> String {
    let quoted = |argument: &str| {
        let plain = |c: char| c.is_alphanumeric() || "-_=/:.,%@+".contains(c);
        let quoted = !argument.chars().all(plain);
        if quoted { format!("'{argument}'") } else { argument.to_owned() }
    };
    line.split('|').map(quoted).collect::<Vec<_>>().join(" ")
}

#[test]
fn secrets_of_well_known_programs_are_taken_out_of_arguments_and_of_shell_lines() {
    let mut left = Vec::new();
    for line in SECRETS {
        let shell = as_shell(line);
        let texts = [
            redact_arguments(line.split('|')),
            redact(&shell).into_owned(),
            redact(&format!("cd /x && {shell} > /dev/null; ls")).into_owned(),
            redact_arguments(["sh", "-c", &shell]),
        ];
        for text in texts {
            if text.contains(CANARY) || !text.contains(REDACTED) {
                left.push(format!("{line} → {text}"));
            }
        }
    }
    assert!(left.is_empty(), "{}", left.join("\n"));
}

#[test]
fn what_stands_beside_a_secret_or_is_none_stays() {
    for line in [
        "htpasswd|-v|users|ann",
        "htpasswd|users|ann",
        "wpa_passphrase|lab",
        "vault|status",
        "vault|kv|get|secret/x",
        "vault|token|create|-policy=x",
        "vault|server|-config=/etc/vault",
        "net|ads|info",
        "net|use",
        "smbclient|//lab/share|-U|ann|-c|ls",
        "cargo|build|--release",
        "aws|s3|ls|s3://bucket",
        "aws|configure|set|region|eu-1",
        "nmcli|con|show|lab",
        "iw|dev|wlan0|link",
        "gh|pr|list",
        "kubectl|get|pods|x",
        "curl|-sSfo|file|https://lab:8443/x",
        "openssl|x509|-in|a.pem|-text",
        "mysqladmin|-u|root|status",
        "ssh-keygen|-t|ed25519|-f|key",
        "rabbitmqctl|list_users",
        "ansible-vault|view|a.yml",
        "apt-get|install|libsecret-1-0",
        "psql|-U|ann|-p|5433",
    ] {
        assert_eq!(redact_arguments(line.split('|')), line.replace('|', " "));
    }
    let shown = redact("htpasswd -b users ann x1 > out; vault kv put secret/a b=c\nls -l out");
    let shown = shown.replace(REDACTED, "#");
    assert_eq!(shown, "htpasswd -b users ann # > out; vault kv put secret/a #\nls -l out");
}

#[test]
fn what_is_printed_into_a_program_that_reads_a_password_is_taken_out() {
    for line in [
        "echo ann:h7Ntr2xx | chpasswd",
        "echo 'h7Ntr2xx' | sudo -S apt-get update",
        "ls; echo -n \"h7Ntr2xx x\" | docker login -u ann --password-stdin lab",
        "printf '%s\\n' h7Ntr2xx h7Ntr2xx | smbpasswd -s -a ann",
        "cd /x && echo h7Ntr2xx | passwd --stdin ann && ls",
        "echo h7Ntr2xx | gh auth login --with-token",
        "echo h7Ntr2xx | cryptsetup open /dev/sdb x",
    ] {
        for shown in [redact(line).into_owned(), redact_arguments(["sh", "-c", line])] {
            assert!(!shown.contains(CANARY) && shown.contains(REDACTED), "{line} → {shown}");
        }
    }
    let shown = redact("echo a b | chpasswd; echo c | grep c | sudo -S x");
    assert_eq!(shown, "echo [redacted] | chpasswd; echo c | grep c | sudo -S x");
    for line in ["echo a | grep a", "echo a | sudo tee x", "cat a | chpasswd"] {
        assert_eq!(redact(line), line);
    }
}

#[test]
fn what_a_shell_gives_to_a_program_as_its_input_is_taken_out() {
    for line in [
        "chpasswd <<< ann:h7Ntr2xx",
        "chpasswd<<<ann:h7Ntr2xx",
        "sudo -S ls <<< 'x h7Ntr2xx' && ls",
        "cryptsetup open /dev/sdb x 0<<<\"a \\\" h7Ntr2xx\"",
        "cat <<<\t$'h7Ntr2xx'; ls",
        "cat <<< a\\ h7Ntr2xx",
        "cat <<< 'h7Ntr2xx and no end",
        "cat <<< a; kinit ann <<< h7Ntr2xx",
    ] {
        for shown in [redact(line).into_owned(), redact_arguments(["bash", "-c", line])] {
            assert!(!shown.contains(CANARY) && shown.contains(REDACTED), "{line} → {shown}");
        }
    }
    assert_eq!(redact("sudo -S ls <<< 'x y' && ls -l"), "sudo -S ls <<< [redacted] && ls -l");
    for line in ["<<<<<<< HEAD", "cat < x", "cat << EOF", "cat <<<", "cat <<< ; ls"] {
        assert_eq!(redact(line), line);
    }
}
