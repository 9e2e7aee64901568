//! What routes and policies are made of, as it changes: files today, URLs and names in DNS later.

pub mod file;
pub mod system_roots;
