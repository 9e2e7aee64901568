//! Signals as engines spell them: `SIGQUIT`, `quit`, `3`, `RTMIN+3`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// By its number on Linux (signal(7); x86 and ARM agree). An engine's events carry the number, images any spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(u8);

impl Signal {
    pub const INT: Signal = Signal(2);
    pub const QUIT: Signal = Signal(3);
    pub const KILL: Signal = Signal(9);
    pub const TERM: Signal = Signal(15);
}

/// What the C library leaves of the real-time signals.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;
const NAMED: [(&str, u8); 36] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", RTMIN),
    ("RTMAX", RTMAX),
];

impl FromStr for Signal {
    type Err = String;

    fn from_str(raw: &str) -> Result<Signal, String> {
        let upper = raw.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let step = |steps: &str| steps.parse::<u8>().ok().filter(|steps| *steps <= RTMAX - RTMIN);
        let number = if let Some(steps) = name.strip_prefix("RTMIN+") {
            step(steps).map(|steps| RTMIN + steps)
        } else if let Some(steps) = name.strip_prefix("RTMAX-") {
            step(steps).map(|steps| RTMAX - steps)
        } else {
            let named = NAMED.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
            named.or_else(|| upper.parse().ok().filter(|number| (1..=RTMAX).contains(number)))
        };
        number.map(Signal).ok_or_else(|| format!("\"{raw}\" is no signal; write it like SIGQUIT, QUIT, 3 or RTMIN+3"))
    }
}

impl TryFrom<String> for Signal {
    type Error = String;

    fn try_from(raw: String) -> Result<Signal, String> {
        raw.parse()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> String {
        signal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_engine_is_read() {
        for (number, spellings) in [
            (3, vec!["SIGQUIT", "QUIT", "quit", "sigquit", "3", " 3 ", "03"]),
            (15, vec!["SIGTERM", "15"]),
            (28, vec!["SIGWINCH", "winch"]),
            (34, vec!["RTMIN", "SIGRTMIN", "RTMIN+0", "34"]),
            (37, vec!["RTMIN+3", "SIGRTMIN+3", "rtmin+3", "37"]),
            (63, vec!["RTMAX-1", "SIGRTMAX-1"]),
            (64, vec!["RTMAX", "RTMIN+30", "64"]),
        ] {
            for spelling in spellings {
                assert_eq!(spelling.parse(), Ok(Signal(number)), "{spelling}");
            }
        }
        assert_eq!(
            ["INT", "QUIT", "KILL", "TERM"].map(str::parse),
            [Signal::INT, Signal::QUIT, Signal::KILL, Signal::TERM].map(Ok)
        );
    }

    #[test]
    fn what_is_no_signal_is_none() {
        for raw in ["", "SIG", "SIGNAL", "0", "65", "-9", "300", "RTMIN+31", "RTMAX-31", "RTMIN-1", "SIG15", "TERM9"] {
            assert!(raw.parse::<Signal>().is_err(), "{raw}");
        }
    }

    #[test]
    fn it_is_shown_by_name_and_read_back() {
        for number in 1..=RTMAX {
            let shown = Signal(number).to_string();
            assert_eq!(shown.parse(), Ok(Signal(number)), "{shown}");
        }
        assert_eq!((Signal::QUIT.to_string(), Signal(37).to_string()), ("SIGQUIT".into(), "37".into()));
    }
}
