//! Which target and which endpoint a request goes to. Pure: chance comes in as a number.
//!
//! The target is an independent draw for each request, in proportion to the weights: the judge's proof rests on that
//! coin, so there is no round robin and no smoothing between targets; where a route's sessions stay with a version, the draw
//! is the session's. Inside a target, endpoints take
//! turns, since there only evenness matters.

/// A worker's generator: SplitMix64, eight bytes of state, a few instructions a number.
///
/// Not for secrets. One for each worker, seeded from the system, so that no worker can tell another's draws.
#[derive(Debug, Clone, Copy)]
pub struct Draws(u64);

impl Draws {
    /// A generator that always gives the same numbers for the same seed.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, uniform over all 64-bit values.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Index of the target that a uniform draw falls on; `None` when no weight is above zero.
#[must_use]
pub fn pick(draw: u64, weights: &[u32]) -> Option<usize> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    // Scales the draw to 0..total by its upper half, which is off by less than total / 2^64.
    at(u64::try_from((u128::from(draw) * u128::from(total)) >> 64).ok()?, weights)
}

/// Index of the target of a session with this number, evenly distributed; `None` when no weight is above zero.
///
/// The remainder by the total, as Envoy takes it (`WeightedCluster.use_hash_policy`), so that a session is with one version
/// whatever carries it. While the total stays the same, which it does over a rollout, the border between two targets moves
/// with their weights: sessions beside it change sides, as many as the weights say, and no other.
#[must_use]
pub fn pick_for(session: u64, weights: &[u32]) -> Option<usize> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    at(session.checked_rem(total)?, weights)
}

/// Index of the target in whose part of the total a point lies.
fn at(mut point: u64, weights: &[u32]) -> Option<usize> {
    for (index, weight) in weights.iter().enumerate() {
        let weight = u64::from(*weight);
        if point < weight {
            return Some(index);
        }
        point -= weight;
    }
    None
}

/// Takes the next of the usable endpoints in turn, skipping those already tried where another is left.
/// `tried` has bit i set for endpoint i (endpoints past 63 are never skipped); `None` when there are none.
#[must_use]
pub fn take_turn(cursor: &mut usize, usable: &[u32], tried: u64) -> Option<u32> {
    let was_tried = |endpoint: u32| tried.checked_shr(endpoint).unwrap_or(0) & 1 == 1;
    let mut first = None;
    for _ in 0..usable.len() {
        let endpoint = usable[*cursor % usable.len()];
        *cursor = cursor.wrapping_add(1);
        if !was_tried(endpoint) {
            return Some(endpoint);
        }
        first.get_or_insert(endpoint);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn draws_fall_in_proportion_to_the_weights() {
        let mut draws = Draws::seeded(20_260_101);
        for weights in [&[90, 10][..], &[1, 99], &[50, 50], &[1, 2, 3, 4], &[99, 0, 1], &[1]] {
            let (n, total) = (200_000_u32, weights.iter().sum::<u32>());
            let mut counts = vec![0_u32; weights.len()];
            for _ in 0..n {
                counts[pick(draws.draw(), weights).unwrap()] += 1;
            }
            for (count, weight) in counts.iter().zip(weights) {
                let p = f64::from(*weight) / f64::from(total);
                let sigma = (f64::from(n) * p * (1.0 - p)).sqrt();
                assert!((f64::from(*count) - f64::from(n) * p).abs() <= 6.0 * sigma, "{weights:?}: {counts:?}");
            }
        }
    }

    /// Successive draws are independent: pairs fall in proportion to the product of the shares.
    #[test]
    fn a_draw_does_not_depend_on_the_one_before() {
        let (mut draws, n) = (Draws::seeded(7), 200_000_u32);
        let mut both = 0_u32;
        let mut last = false;
        for _ in 0..n {
            let canary = pick(draws.draw(), &[90, 10]) == Some(1);
            both += u32::from(canary && last);
            last = canary;
        }
        let (mean, sigma) = (f64::from(n) * 0.01, (f64::from(n) * 0.01 * 0.99).sqrt());
        assert!((f64::from(both) - mean).abs() <= 6.0 * sigma * 1.2, "{both}");
    }

    #[test]
    fn the_ends_of_the_range_belong_to_the_first_and_last_target() {
        for (draw, weights, index) in [
            (0, &[1, 1][..], Some(0)),
            (u64::MAX, &[1, 1], Some(1)),
            (0, &[0, 5], Some(1)),
            (u64::MAX, &[5, 0], Some(0)),
            (u64::MAX / 2, &[1, 1], Some(0)),
            (u64::MAX / 2 + 1, &[1, 1], Some(1)),
            (3, &[0, 0], None),
            (3, &[], None),
        ] {
            assert_eq!(pick(draw, weights), index, "{draw} {weights:?}");
        }
    }

    #[test]
    fn endpoints_take_turns_and_tried_ones_come_last() {
        let mut cursor = 0;
        let mut turns = |usable: &[u32], tried| take_turn(&mut cursor, usable, tried);
        assert_eq!([turns(&[0, 1, 2], 0), turns(&[0, 1, 2], 0), turns(&[0, 1, 2], 0)], [Some(0), Some(1), Some(2)]);
        assert_eq!(turns(&[0, 1], 0b01), Some(1));
        assert_eq!(turns(&[4], 0b1_0000), Some(4), "the only one is tried again");
        assert_eq!(turns(&[], 0), None);
        assert_eq!(turns(&[70], u64::MAX), Some(70));
        let mut at_the_end = usize::MAX;
        assert!(take_turn(&mut at_the_end, &[0, 1], 0).is_some());
    }

    proptest! {
        /// Raising the canary moves sessions to it, as many as it gets, and none back; lowering it the other way.
        #[test]
        fn sessions_move_one_way_only(session: u64, from in 0_u32..=100, to in 0_u32..=100, canary_is_first: bool) {
            let weights = |canary: u32| if canary_is_first { [canary, 0, 100 - canary] } else { [100 - canary, 0, canary] };
            let canary = if canary_is_first { 0 } else { 2 };
            let (low, high) = (from.min(to), from.max(to));
            let before = pick_for(session, &weights(low)) == Some(canary);
            let after = pick_for(session, &weights(high)) == Some(canary);
            prop_assert!(!before || after);
            let edge = u32::try_from(session % 100).expect("below 100");
            let place = if canary_is_first { edge } else { 99 - edge };
            prop_assert_eq!((before, after), (place < low, place < high));
        }

        #[test]
        fn only_a_target_with_weight_is_picked(draw: u64, weights in proptest::collection::vec(0_u32.., 0..8)) {
            match pick(draw, &weights) {
                Some(index) => prop_assert!(weights[index] > 0),
                None => prop_assert!(weights.iter().all(|weight| *weight == 0)),
            }
            let session = pick_for(draw, &weights);
            prop_assert_eq!(session.is_none(), weights.iter().all(|weight| *weight == 0));
            prop_assert!(session.is_none_or(|index| weights[index] > 0));
        }
    }
}
