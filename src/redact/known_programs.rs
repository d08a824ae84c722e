//! Secrets of well-known programs, as the arguments of a process and as lines of a shell.

use super::{REDACTED, redact, redact_arguments};

const CANARY: &str = "h7Ntr2xx";

/// Nothing of the secret is left of `line`, alone and as what `shell` is given.
fn assert_hidden(shell: &str, line: &str) {
    for shown in [redact(line).into_owned(), redact_arguments([shell, "-c", line])] {
        assert!(!shown.contains(CANARY) && shown.contains(REDACTED), "{line} → {shown}");
    }
}

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
    "mysqlsh|--uri|root:h7Ntr2xx@lab",
    "psexec.py|dom/ann:h7Ntr2xx@lab",
    "influx|-username|ann|-password|h7Ntr2xx",
    "redis-cli|-h|lab|AUTH|h7Ntr2xx",
    "redis-server|--masterauth|h7Ntr2xx",
    "curl|-H|Cookie: theme=dark; session=h7Ntr2xx",
    "curl|https://lab/x?a=b&sig=h7Ntr2xx",
    "curl|https://lab/x?key=h7Ntr2xx&a=b",
    "wget|--header|X-Auth: h7Ntr2xx",
    "http|-a|ann:h7Ntr2xx|GET|lab",
    "openssl|dgst|-sha256|-hmac|h7Ntr2xx",
    "openssl|dgst|-mac|HMAC|-macopt|hexkey:h7Ntr2xx",
    "pulumi|config|set|--secret|name|h7Ntr2xx",
    "ansible-playbook|-e|db_pw=h7Ntr2xx",
    "aws|secretsmanager|create-secret|--name|x|--secret-string|h7Ntr2xx",
    "az|keyvault|secret|set|--vault-name|v|--name|n|--value|h7Ntr2xx",
    "git|config|--global|user.password|h7Ntr2xx",
    "npm|config|set|_authToken|h7Ntr2xx",
    "yarn|config|set|npmAuthToken|h7Ntr2xx",
    "poetry|config|pypi-token.pypi|h7Ntr2xx",
    "composer|config|http-basic.lab|ann|h7Ntr2xx",
    "composer|config|github-oauth.github.com|h7Ntr2xx",
    "dotnet|user-secrets|set|Db:Password|h7Ntr2xx",
    "samba-tool|user|create|ann|h7Ntr2xx",
    "ipa-client-install|-p|admin|-w|h7Ntr2xx",
    "openconnect|--cookie=h7Ntr2xx|lab",
    "openconnect|-C|h7Ntr2xx|lab",
    "openfortivpn|lab|-u|ann|-p|h7Ntr2xx",
    "racadm|-r|lab|-u|root|-p|h7Ntr2xx|getsysinfo",
    "rclone|config|create|x|s3|secret_access_key|h7Ntr2xx",
    "mc|alias|set|x|http://lab|name|h7Ntr2xx",
    "swift|-K|h7Ntr2xx|list",
    "ceph|--key|h7Ntr2xx|status",
    "grafana|cli|admin|reset-admin-password|h7Ntr2xx",
    "java|-jar|jenkins-cli.jar|-auth|ann:h7Ntr2xx|who-am-i",
    "drush|upwd|ann|h7Ntr2xx",
    "sendemail|-xu|ann|-xp|h7Ntr2xx",
    "imapsync|--password1|h7Ntr2xx|--password2=h7Ntr2xx",
    "virsh|secret-set-value|--secret|uuid|--base64|h7Ntr2xx",
    "virsh|set-user-password|web|ann|h7Ntr2xx",
    "qemu-img|convert|--object|secret,id=s,data=h7Ntr2xx",
    "certbot|--eab-hmac-key|h7Ntr2xx",
    "bw|login|ann@lab|h7Ntr2xx",
    "pkcs11-tool|--login|--pin|h7Ntr2xx",
    "caddy|hash-password|-p|h7Ntr2xx",
    "env|LDAP_BIND_PW=h7Ntr2xx|x",
    "env|GITHUB_PAT=h7Ntr2xx|x",
    "env|SECRET_KEY_BASE=h7Ntr2xx|x",
    "env|JWT_SIGNING_KEY=h7Ntr2xx|x",
    "env|APP_KEY=base64:h7Ntr2xx|x",
    "gh|secret|set|NAME|-bh7Ntr2xx",
    "redis-cli|-ah7Ntr2xx|ping",
    "curl|-bsession=h7Ntr2xx|https://lab",
    "x|--pin|h7Ntr2xx",
    "ykman|piv|access|change-pin|--new-pin=h7Ntr2xx",
    "npm|publish|--otp=h7Ntr2xx",
    "x|--totp|h7Ntr2xx",
    "x|--puk|h7Ntr2xx",
    "env|CARD_PIN=h7Ntr2xx|x",
    "security|add-generic-password|-a|ann|-wh7Ntr2xx",
    "nsupdate|-yhmac-sha256:key:h7Ntr2xx",
    "tcpdump|-E|aes256-cbc:h7Ntr2xx",
    "psexec|\\lab|-u|ann|-ph7Ntr2xx",
    "tpm2_unseal|-ph7Ntr2xx",
    "yubico-piv-tool|-Ph7Ntr2xx|-averify",
    "schtasks|/create|/rp|h7Ntr2xx",
    "radtest|ann|h7Ntr2xx|lab|0|h7Ntr2xx",
    "iscsiadm|-m|node|-n|node.session.auth.password|-v|h7Ntr2xx",
    "qmicli|-d|/dev/cdc-wdm0|--uim-verify-pin=PIN1,h7Ntr2xx",
    "qmicli|--uim-change-pin=PIN1,1234,h7Ntr2xx",
    "x|--password=a,b,h7Ntr2xx",
    "pwsh|-EncodedCommand|h7Ntr2xx==",
    "pwsh|-NoProfile|-enc|h7Ntr2xx",
    "powershell.exe|-e|h7Ntr2xx",
    "pwsh|-ENCODEDARGUMENTS|h7Ntr2xx",
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
        "gh|secret|set|NAME",
        "gh|secret|list",
        "kubectl|get|secret|x",
        "kubectl|create|secret|generic|x",
        "docker|secret|create|x|file",
        "pwsh|-ExecutionPolicy|Bypass|-File|a.ps1",
        "kubectl|get|pods|x",
        "curl|-sSfo|file|https://lab:8443/x",
        "openssl|x509|-in|a.pem|-text",
        "mysqladmin|-u|root|status",
        "ssh-keygen|-t|ed25519|-f|key",
        "rabbitmqctl|list_users",
        "ansible-vault|view|a.yml",
        "apt-get|install|libsecret-1-0",
        "psql|-U|ann|-p|5433",
        "git|config|user.name|ann",
        "git|config|--get|credential.helper",
        "npm|config|set|registry|https://npm.lab",
        "virsh|start|web",
        "mc|ls|x",
        "curl|https://lab/x?keys=a&b=c",
        "openssl|dgst|-sha256|file",
        "redis-cli|-h|lab|get|key",
        "http|GET|lab:8080/x",
        "npm|publish|--no-otp",
        "x|--spin|3",
        "gh|pr|list|-L|5",
        "tcpdump|-i|eth0",
        "psql|-c|select a by b order by c",
        "sh|-c|send mail to ann; echo the key is set for ann",
    ] {
        assert_eq!(redact_arguments(line.split('|')), line.replace('|', " "));
    }
    let shown = redact("htpasswd -b users ann x1 > out; vault kv put secret/a b=c\nls -l out");
    let shown = shown.replace(REDACTED, "#");
    assert_eq!(shown, "htpasswd -b users ann # > out; vault kv put secret/a #\nls -l out");
}

/// Languages that a program takes as an argument.
const TEXTS: &[&str] = &[
    "spawn su; expect \"password: \"; send -- \"h7Ntr2xx\\r\"; interact",
    "spawn su; expect password:; send h7Ntr2xx\\r; interact",
    "spawn su; expect x; send {h7Ntr2xx}",
    "c = pexpect.spawn('su'); c.expect('x'); c.sendline('h7Ntr2xx')",
    "ALTER USER ann IDENTIFIED BY 'h7Ntr2xx'",
    "ALTER USER ann IDENTIFIED BY h7Ntr2xx",
    "create user ann identified with x by \"a h7Ntr2xx\"",
    "CREATE USER ann IDENTIFIED BY PASSWORD 'h7Ntr2xx'",
    "SET PASSWORD FOR ann = 'h7Ntr2xx'",
    "SET PASSWORD FOR ann = PASSWORD('h7Ntr2xx')",
    "ALTER ROLE ann WITH ENCRYPTED PASSWORD E'h7Ntr2xx'",
    "CREATE LOGIN ann WITH PASSWORD = N'h7Ntr2xx'",
    "PRAGMA key='h7Ntr2xx'",
    "$p = ConvertTo-SecureString 'h7Ntr2xx' -AsPlainText -Force",
    "ConvertTo-SecureString -AsPlainText -Force -String h7Ntr2xx",
    "New-LocalUser ann -Password (ConvertTo-SecureString \"a) h7Ntr2xx\" -AsPlainText -Force)",
    "New-Object PSCredential('ann', (ConvertTo-SecureString 'h7Ntr2xx' -AsPlainText -Force))",
    "[Net.NetworkCredential]::new('ann', 'h7Ntr2xx')",
];

#[test]
fn secrets_in_sql_expect_and_powershell_are_taken_out() {
    for text in TEXTS {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        for shown in [
            redact(text).into_owned(),
            redact(&format!("x -c \"{quoted}\"; ls")).into_owned(),
            redact_arguments(["x", "-c", text]),
        ] {
            assert!(!shown.contains(CANARY) && shown.contains(REDACTED), "{text} → {shown}");
        }
    }
    let shown = redact("New-LocalUser ann -Password (ConvertTo-SecureString 'x y' -Force); ls");
    assert_eq!(shown, "New-LocalUser ann -Password [redacted]; ls");
    let shown = redact("spawn su; expect x; send -- \"x y\"; interact");
    assert_eq!(shown, "spawn su; expect x; send -- [redacted]; interact");
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
        "echo ann:h7Ntr2xx|chpasswd",
        "echo 'ann:a; h7Ntr2xx' | chpasswd",
        "echo \"ann:h7Ntr2xx | b\" 2>&1 | chpasswd",
        "/bin/echo aDdOdHIyeHg= h7Ntr2xx | base64 -d | chpasswd",
        "(echo h7Ntr2xx; echo h7Ntr2xx) | passwd ann",
        "{ echo h7Ntr2xx; echo h7Ntr2xx; } | smbpasswd -s ann",
        "yes h7Ntr2xx | passwd ann",
        "echo h7Ntr2xx | su - ann -c ls",
        "sudo sh -c \"echo ann:h7Ntr2xx | chpasswd\"",
        "echo h7Ntr2xx | docker secret create x -",
        "echo h7Ntr2xx | gh secret set NAME",
        "echo h7Ntr2xx > /run/secrets/db",
        "printf %s h7Ntr2xx >> ~/.vault_pass; ls",
        "echo \"machine a login b h7Ntr2xx\" >| ~/.netrc",
        "echo h7Ntr2xx | sudo tee /etc/ipsec.secrets",
        "cryptsetup open --key-file <(echo -n h7Ntr2xx) /dev/sdb x",
        "chpasswd < <(echo root:a; echo 'ann:) h7Ntr2xx')",
        "'h7Ntr2xx' | ConvertTo-SecureString -AsPlainText -Force",
        "$p = \"a; h7Ntr2xx\"|convertto-securestring -AsPlainText",
        "pwsh -c \"'h7Ntr2xx' | ConvertTo-SecureString -AsPlainText\"",
        "Write-Output h7Ntr2xx | ConvertTo-SecureString",
    ] {
        assert_hidden("sh", line);
    }
    let shown = redact("echo a b | chpasswd; echo c | grep c | sudo -S x");
    assert_eq!(shown, "echo [redacted] | chpasswd; echo [redacted] | sudo -S x");
    let shown = redact("a; echo b > token && echo c; diff <(echo d) <(sort e)");
    assert_eq!(shown, "a; echo [redacted] > token && echo c; diff <(echo [redacted]) <(sort e)");
    for line in [
        "echo a | grep a",
        "echo a | sudo tee x",
        "cat a | chpasswd",
        "echo a; cat b | chpasswd",
        "echo a || passwd -S",
        "echo a > b; passwd -S ann",
        "$s = Read-Host x | ConvertTo-Json",
    ] {
        assert_eq!(redact(line), line);
    }
}

#[test]
fn here_documents_are_taken_out_of_shell_texts() {
    for (text, expected) in [
        ("chpasswd <<EOF\nann:h7Ntr2xx\nEOF\nls -l", "chpasswd <<EOF\n[redacted]\nEOF\nls -l"),
        ("cat << 'E OF' > x\nh7Ntr2xx\n\nE OF", "cat << 'E OF' > x\n[redacted]\nE OF"),
        ("cat <<\"EOF\"|sh\r\nh7Ntr2xx\r\nEOF\r\nls", "cat <<\"EOF\"|sh\r\n[redacted]\nEOF\r\nls"),
        (
            "if x; then\n\tcat <<-\\EOF\n\th7Ntr2xx\n\tEOF\nfi",
            "if x; then\n\tcat <<-\\EOF\n[redacted]\n\tEOF\nfi",
        ),
        (
            "cat 3<<A <<B; ls\nh7Ntr2xx\nA\nh7Ntr2xx\nB\nls",
            "cat 3<<A <<B; ls\n[redacted]\nA\n[redacted]\nB\nls",
        ),
        (
            "psql -c \"$(cat <<SQL\nh7Ntr2xx\nSQL\n)\"; ls",
            "psql -c \"$(cat <<SQL\n[redacted]\nSQL\n)\"; ls",
        ),
        ("cat <<EOF\n EOF\nh7Ntr2xx is cut", "cat <<EOF\n[redacted]"),
        ("a\ncat <<''\nh7Ntr2xx\n\nls", "a\ncat <<''\n[redacted]\n\nls"),
        ("$p = @'\nh7Ntr2xx\na'@\n'@ | x\nls", "$p = @'\n[redacted]\n'@ | x\nls"),
        ("x (@\"\r\nh7Ntr2xx\r\n\"@)", "x (@\"\r\n[redacted]\n\"@)"),
        ("cat <<<x <<EOF\nh7Ntr2xx\nEOF", "cat <<<[redacted] <<EOF\n[redacted]\nEOF"),
    ] {
        assert_eq!(redact(text), expected);
        assert_eq!(redact_arguments(["bash", "-c", text]), format!("bash -c {expected}"));
    }
    for text in [
        "cat <<EOF",
        "cat <<EOF\nEOF\nls",
        "echo $((1<<4)) $((1 << 4))\nls\ncat x",
        "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> main",
        "cat << ; ls\nls",
        "scp x \"ann@\"\nls",
    ] {
        assert_eq!(redact(text), text);
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
        assert_hidden("bash", line);
    }
    assert_eq!(redact("sudo -S ls <<< 'x y' && ls -l"), "sudo -S ls <<< [redacted] && ls -l");
    for line in ["<<<<<<< HEAD", "cat < x", "cat << EOF", "cat <<<", "cat <<< ; ls"] {
        assert_eq!(redact(line), line);
    }
}

/// The time of a text that is made to be looked at again and again, and that of one eight times as long.
#[test]
fn a_long_text_takes_time_in_proportion() {
    let clock = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    for part in [
        "\n",
        "a<<4\n",
        "a<<b\n",
        "a @'\n",
        "\"",
        "'",
        "\\",
        "(",
        "{",
        "-",
        "$(",
        "<<<'",
        "by ",
        "identified by ",
        "set password for ",
        "send -",
        "expect send ",
        "ConvertTo-SecureString (",
        "password ",
        "password='",
        "<password>",
        "echo x | ",
        "-----BEGIN X KEY-----",
        "a://b:c",
        "://",
        "-p ",
        "mysql -p",
        "curl -u ",
        "echo 'x|passwd",
        "echo (x|su;",
        ">",
        ">x",
        "|passwd",
        "<(echo ",
        "<(",
        "--pin=a,",
        "AKIA",
        "Bearer ",
        "a=b;",
    ] {
        for end in ["", "<<"] {
            let time = |bytes: usize| {
                let text = part.repeat(bytes / part.len()) + end;
                let begun = clock();
                std::hint::black_box(redact(&text));
                clock() - begun
            };
            let (short, long) = (time(4 << 10), time(32 << 10));
            let most = short * 8 * 3 + std::time::Duration::from_millis(20);
            assert!(long < most, "{part:?} and {end:?}: {short:?}, then {long:?}");
        }
    }
}
