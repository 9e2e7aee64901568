//! Header blocks (RFC 7541): written as literals that are not indexed, and read without a dynamic table.

/// A field in which name and value stand as they are, so that what no library would write can be written.
pub fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &string(name), &string(value)].concat()
}

/// All fields of a block.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name.as_bytes(), value.as_bytes())).collect()
}

/// The fields of a block whose sender was told to have no dynamic table.
pub fn fields(mut block: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while let [first, ..] = *block {
        if first & 0x80 != 0 {
            let (name, value) = STATIC[integer(&mut block, 7) - 1];
            fields.push((name.into(), value.into()));
        } else if first & 0xe0 == 0x20 {
            assert_eq!(integer(&mut block, 5), 0, "the dynamic table is off");
        } else {
            let name = match integer(&mut block, if first & 0x40 != 0 { 6 } else { 4 }) {
                0 => text(&mut block),
                index => STATIC[index - 1].0.into(),
            };
            fields.push((name, text(&mut block)));
        }
    }
    fields
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut length = Vec::new();
    match bytes.len() {
        short @ 0..=126 => length.push(u8::try_from(short).unwrap()),
        long => {
            length.push(127);
            let mut rest = long - 127;
            while rest > 127 {
                length.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
                rest >>= 7;
            }
            length.push(u8::try_from(rest).unwrap());
        }
    }
    [&length, bytes].concat()
}

fn integer(block: &mut &[u8], prefix: u32) -> usize {
    let mask = (1 << prefix) - 1;
    let mut value = usize::from(block[0]) & mask;
    *block = &block[1..];
    let mut shift = 0;
    if value == mask {
        loop {
            let byte = usize::from(block[0]);
            *block = &block[1..];
            value += (byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    value
}

fn text(block: &mut &[u8]) -> String {
    let coded = block[0] & 0x80 != 0;
    let length = integer(block, 7);
    let (bytes, rest) = block.split_at(length);
    *block = rest;
    if coded { decode(bytes) } else { String::from_utf8_lossy(bytes).into() }
}

/// Canonical codes: of one length they count up with the symbols, and each length goes on where the shorter ended.
fn decode(bytes: &[u8]) -> String {
    let mut codes: Vec<(u8, usize)> = LENGTHS.iter().enumerate().map(|(symbol, length)| (*length, symbol)).collect();
    codes.sort_unstable();
    let (mut text, mut bits, mut have) = (String::new(), 0u32, 0u8);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        (bits, have) = (bits << 1 | u32::from(bit), have + 1);
        let (mut code, mut last) = (0u32, 0);
        for (length, symbol) in &codes {
            code <<= length - last;
            last = *length;
            if last == have && code == bits {
                text.push(char::from_u32(u32::try_from(*symbol).unwrap()).unwrap());
                (bits, have) = (0, 0);
                break;
            }
            code += 1;
        }
    }
    text
}

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// RFC 7541, appendix B: how many bits each byte takes.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
