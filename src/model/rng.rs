//! Numbers that look like chance and are the same everywhere for the same seed. Not for secrets.

/// SplitMix64 (Steele, Lea, Flood 2014), small and quick.
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end.max(1)
    }

    /// 0 to 100, with two decimals.
    pub fn percent(&mut self) -> f64 {
        self.below(10_001) as f64 / 100.0
    }
}
