//! The parameters of a query, decoded as HTML forms are (`+` is a space), by the rules of Go's `url.Query`: a pair with
//! a `;` or a broken escape is none.

use std::borrow::Cow;

/// Sorted by name and value, so that a look-up does not depend on how many a client sends.
#[derive(Debug)]
pub(super) struct Parameters<'q>(Vec<Parameter<'q>>);

type Parameter<'q> = (Cow<'q, [u8]>, Cow<'q, [u8]>);

impl<'q> Parameters<'q> {
    pub fn of(query: &'q str) -> Parameters<'q> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
        let mut parameters: Vec<Parameter<'q>> = pairs
            .filter_map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((decode(name)?, decode(value)?))
            })
            .collect();
        parameters.sort_unstable();
        Parameters(parameters)
    }

    /// Whether any value of the parameter equals.
    pub fn has(&self, name: &str, value: &str) -> bool {
        let wanted = (name.as_bytes(), value.as_bytes());
        self.0.binary_search_by(|(name, value)| (&**name, &**value).cmp(&wanted)).is_ok()
    }

    /// All values of the parameter.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let from = self.0.partition_point(|(found, _)| **found < *name.as_bytes());
        let values = self.0[from..].iter().take_while(move |(found, _)| **found == *name.as_bytes());
        values.map(|(_, value)| &**value)
    }
}

/// `None` where an escape is broken.
fn decode(text: &str) -> Option<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|b| matches!(b, b'%' | b'+')) {
        return Some(Cow::Borrowed(bytes));
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || (*rest.next()? as char).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_as_forms_are() {
        let parameters = Parameters::of("a=1&b=x+y%26z&a=2&&c&%64=%C3%A9&e==f");
        for (name, value) in [("a", "1"), ("a", "2"), ("b", "x y&z"), ("c", ""), ("d", "é"), ("e", "=f")] {
            assert!(parameters.has(name, value), "{name}={value}");
            assert!(parameters.values(name).any(|found| found == value.as_bytes()), "{name}={value}");
        }
        for (name, value) in [("a", "3"), ("A", "1"), ("c", "1"), ("", "")] {
            assert!(!parameters.has(name, value), "{name}={value}");
        }
        assert!(!parameters.values("f").any(|_| true));
    }

    #[test]
    fn a_pair_that_is_broken_is_none() {
        let parameters = Parameters::of("a=%zz&b=%4&c=1;d=2&e=1&f=%");
        assert!(parameters.has("e", "1"));
        for name in ["a", "b", "c", "d", "f"] {
            assert!(!parameters.values(name).any(|_| true), "{name}");
        }
    }
}
