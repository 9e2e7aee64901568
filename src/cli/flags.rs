//! The trailing words of `run`: any setting by its dotted path, `--a.b value` or `--a.b=value`.

use std::path::PathBuf;

/// Words taken apart. Whether they are settings is for `config::load` to say.
#[derive(Debug, Default, PartialEq)]
pub struct Flags {
    pub config: Option<PathBuf>,
    /// Path without the dashes, and value.
    pub settings: Vec<(String, String)>,
    pub help: bool,
}

impl Flags {
    pub fn parse(words: Vec<String>) -> Result<Flags, String> {
        let mut flags = Flags::default();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            if matches!(word.as_str(), "-h" | "--help") {
                flags.help = true;
                continue;
            }
            let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
                return Err(format!("\"{word}\" is no flag; a setting is written --log.level debug"));
            };
            let (path, value) = match flag.split_once('=') {
                Some((path, value)) => (path.to_string(), Some(value.to_string())),
                None => (flag.to_string(), words.next_if(|next| !next.starts_with("--"))),
            };
            let value =
                value.ok_or_else(|| format!("--{path} has no value; write --{path} VALUE or --{path}=VALUE"))?;
            // clap takes it before the first setting, and leaves it here after one.
            if path == "config" {
                flags.config = Some(value.into());
            } else {
                flags.settings.push((path, value));
            }
        }
        Ok(flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Flags, String> {
        Flags::parse(words.iter().map(|word| (*word).to_string()).collect())
    }

    #[test]
    fn a_value_follows_or_stands_behind_the_equals_sign() {
        let flags = parse(&["--workers=2", "--log.level", "debug", "--a.b=--x=y", "--n", "-1", "--config", "c"])
            .expect("valid");
        let settings: Vec<(&str, &str)> = flags.settings.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(settings, [("workers", "2"), ("log.level", "debug"), ("a.b", "--x=y"), ("n", "-1")]);
        assert_eq!((flags.config, flags.help), (Some("c".into()), false));
    }

    #[test]
    fn what_is_no_flag_or_lacks_its_value_is_named() {
        for (words, why) in [
            (&["--workers"][..], "--workers has no value"),
            (&["--workers", "--log.level", "info"], "--workers has no value"),
            (&["workers", "2"], "\"workers\" is no flag"),
            (&["--"], "\"--\" is no flag"),
        ] {
            let error = parse(words).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn help_may_be_asked_for_anywhere() {
        assert!(parse(&["--workers", "2", "--help"]).expect("valid").help);
    }
}
