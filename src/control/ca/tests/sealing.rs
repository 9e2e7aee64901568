use super::*;

fn locked(dir: &TempDir, passphrase: &str) -> CaOptions {
    let file = dir.path().join(format!("passphrase{}", passphrase.len()));
    fs::write(&file, passphrase).expect("written");
    CaOptions { passphrase_file: Some(file), ..CaOptions::default() }
}

fn with(dir: &TempDir, options: &CaOptions) -> Result<InternalCa, CaError> {
    InternalCa::open_with(&dir.path().join("ca"), "corp", options, now())
}

fn key(dir: &TempDir, file: &str) -> String {
    fs::read_to_string(dir.path().join("ca").join(file)).expect("read")
}

#[test]
fn keys_under_a_passphrase_are_what_openssl_reads_and_nobody_without_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let options = locked(&dir, "s3cret wörd\n");
    let ca = with(&dir, &options).expect("opened");
    ca.issue_server_at(&[dns("a.example")], LEAF_LIFE, now()).expect("issued");
    for file in ["root-key.pem", "intermediate-key.pem"] {
        let text = key(&dir, file);
        assert!(text.contains("ENCRYPTED PRIVATE KEY") && !text.contains("BEGIN PRIVATE KEY"), "{text}");
        let path = dir.path().join("ca").join(file);
        let asked = |passphrase: &str, more: &[&str]| {
            let command = &mut Command::new("openssl");
            command.args(["pkey", "-passin", &format!("pass:{passphrase}"), "-in"]).arg(&path).args(more);
            command.output().expect("openssl is installed")
        };
        let public = asked("s3cret wörd", &["-pubout"]);
        assert!(public.status.success(), "{public:?}");
        let certificate = Command::new("openssl").args(["x509", "-noout", "-pubkey", "-in"]).arg(&path).output();
        assert_eq!(public.stdout, certificate.expect("openssl is installed").stdout);
        assert!(!asked("other", &[]).status.success());
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
    let parsed = Command::new("openssl").args(["asn1parse", "-in"]).arg(dir.path().join("ca/root-key.pem")).output();
    let parsed = String::from_utf8_lossy(&parsed.expect("openssl is installed").stdout).into_owned();
    assert!(["PBES2", "scrypt", "aes-256-cbc"].iter().all(|word| parsed.contains(word)), "{parsed}");

    let again = with(&dir, &options).expect("opened");
    assert_eq!(again.root_pem(), ca.root_pem());
    for (options, why) in [
        (CaOptions::default(), "passphrase_file names no passphrase"),
        (locked(&dir, "other"), "under another passphrase"),
        (locked(&dir, ""), "is empty"),
        (locked(&dir, "a\nb"), "more than one line"),
    ] {
        let error = with(&dir, &options).expect_err(why).to_string();
        assert!(error.contains(why) && error.contains("passphrase_file") && !error.contains("remove"), "{error}");
    }
    let none = CaOptions { passphrase_file: Some(dir.path().join("none")), ..CaOptions::default() };
    assert!(with(&dir, &none).expect_err("no file").to_string().contains("cannot be read"));
}

#[test]
fn a_key_in_the_clear_is_encrypted_when_a_passphrase_comes() {
    let dir = tempfile::tempdir().expect("tempdir");
    let clear = with(&dir, &CaOptions::default()).expect("opened");
    assert!(key(&dir, "root-key.pem").contains("BEGIN PRIVATE KEY"));
    let options = locked(&dir, "word");
    let sealed = with(&dir, &options).expect("opened");
    assert_eq!(sealed.root_pem(), clear.root_pem(), "the same root");
    for file in ["root-key.pem", "intermediate-key.pem"] {
        assert!(!key(&dir, file).contains("BEGIN PRIVATE KEY"), "{file}");
    }
    // A rotation keeps to it.
    rotate(&dir.path().join("ca"), "corp", &options, DAY, now()).expect("rotated");
    for file in ["root-key.pem", "intermediate-key.pem"] {
        assert!(!key(&dir, file).contains("BEGIN PRIVATE KEY"), "{file}");
    }
    // To take back needs no key, and so no passphrase.
    let issued = with(&dir, &options).expect("opened").issue(&client("spiffe://a/b"), DAY, now()).expect("issued");
    super::super::revoke(&dir.path().join("ca"), "corp", &issued.serial, now()).expect("revoked");
}
