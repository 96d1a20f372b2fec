//! What the sequential tests have in common: wealth kept as logarithms, and a reserve that stakes bets afresh.
//!
//! An e-process is the wealth of a gambler who begins with 1 and plays games that are not in his favour if there is
//! nothing to find. Several bets side by side are an average, hence one again, and so is a bet that begins later with
//! money kept back for it. The reserve is that money.

/// Part of the wealth that is kept back for epochs to come, so that a fault that begins late is found as fast.
const KEPT_BACK: f64 = 0.5;

/// ln(sum of exp(x)) without overflow, in the order given. Finite when any term is finite and none is +infinity or not a
/// number; -infinity without terms.
pub(super) fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    largest + terms.map(|term| (term - largest).exp()).sum::<f64>().ln()
}

/// Wealth that is not staked yet. The n-th epoch gets 1/(2 n (n + 1)) of the whole, which sums to one half over any
/// number of epochs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reserve {
    left: f64,
    epochs_opened: u32,
    restarts: bool,
}

impl Reserve {
    /// Half the wealth is kept back for [`Self::open_epoch`].
    pub(super) const fn half() -> Self {
        Self { left: KEPT_BACK, epochs_opened: 0, restarts: true }
    }

    /// All is staked at once, and no epoch gets anything.
    pub(super) const fn nothing() -> Self {
        Self { left: 0.0, epochs_opened: 0, restarts: false }
    }

    /// Part of the whole that is staked at the beginning.
    pub(super) const fn start(&self) -> f64 {
        if self.restarts { 1.0 - KEPT_BACK } else { 1.0 }
    }

    /// Part of the whole that the epoch which begins now stakes; `None` without restarts.
    pub(super) fn open_epoch(&mut self) -> Option<f64> {
        if !self.restarts {
            return None;
        }
        self.epochs_opened = self.epochs_opened.saturating_add(1);
        let number = f64::from(self.epochs_opened);
        self.left = KEPT_BACK / (number + 1.0);
        Some(KEPT_BACK / (number * (number + 1.0)))
    }

    /// Logarithm of all wealth: of this reserve and of the bets. An empty reserve is -infinity, which adds nothing.
    pub(super) fn log_e(&self, log_wealth: impl Iterator<Item = f64> + Clone) -> f64 {
        log_sum_exp(std::iter::once(self.left.ln()).chain(log_wealth))
    }
}

/// Adds a part of the whole to a bet.
pub(super) fn top_up(log_wealth: &mut f64, part: f64) {
    *log_wealth = log_sum_exp([*log_wealth, part.ln()].into_iter());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_never_gives_out_more_than_it_has() {
        let mut reserve = Reserve::half();
        let mut staked = reserve.start();
        for _ in 0..10_000 {
            staked += reserve.open_epoch().expect("restarts");
            assert!((staked + reserve.left - 1.0).abs() < 1e-9, "{staked} {reserve:?}");
        }
        let mut nothing = Reserve::nothing();
        assert_eq!((nothing.start(), nothing.open_epoch(), nothing.left), (1.0, None, 0.0));
    }

    #[test]
    fn sums_of_exponentials_neither_overflow_nor_vanish() {
        assert_eq!(log_sum_exp(std::iter::empty()), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp([f64::NEG_INFINITY, 3.0].into_iter()), 3.0);
        assert!((log_sum_exp([1e6, 1e6].into_iter()) - 1e6 - std::f64::consts::LN_2).abs() < 1e-9);
        assert!((log_sum_exp([-1e6, -1e6].into_iter()) + 1e6 - std::f64::consts::LN_2).abs() < 1e-9);
    }
}
