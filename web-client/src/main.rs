//! The page's entry.

fn main() {
    web_client::start();
}
