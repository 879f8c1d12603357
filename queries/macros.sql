-- Formulas that more than one view uses, and that ad-hoc SQL may use as well.

-- The paper's predictivity of a neuron for a function (Zhang et al. 2023): the better of two average
-- precisions, with the function's positives as positives and with its negatives as positives.
create or replace macro predictivity(ap, ap_complement) as greatest(ap, ap_complement);

-- How far average precision rises above chance in the better direction, as a share of the most that a
-- detector of this function could rise: 0 at chance, 1 when perfect on the rarer class, and the same when the
-- label is complemented. Chance is the prevalence p in one direction and 1 - p in the other, so that
-- predictivity is never below about greatest(p, 1 - p): of a function with 1% positives every neuron has a
-- predictivity of .99, and the raw value ranks functions by their rarity. Lift can be compared between
-- functions; for balanced classes it ranks exactly as predictivity does. NULL where the prevalence is unknown.
create or replace macro lift(ap, ap_complement, prevalence) as
    greatest(ap - prevalence, ap_complement - (1 - prevalence)) / greatest(prevalence, 1 - prevalence);

-- A score in the direction another half prefers: so that what is held out chooses nothing, its direction neither.
create or replace macro in_direction(preference, positive, complement) as
    case when preference >= 0 then positive when preference < 0 then complement end;

-- P(X >= n_found) of the hypergeometric distribution: of n_all, n_marked are marked and n_drawn are drawn without
-- replacement; X of the drawn are marked. The terms on either side of P(X = n_found) are summed as shares of it, by
-- the ratios of neighbours, from the far end inwards: nothing cancels, as logarithms of factorials would, and far
-- tails keep all their digits (sums of lgamma(200,000) would leave nine).
create or replace macro hypergeometric_tail(n_found, n_marked, n_drawn, n_all) as
    case
        when n_found + n_marked + n_drawn + n_all is null then null
        when n_found <= greatest(0, n_marked + n_drawn - n_all) then 1.0::double
        when n_found > least(n_marked, n_drawn) then 0.0::double
        else 1 / (1 + list_reduce(
            list_transform(
                range(greatest(0, n_marked + n_drawn - n_all), n_found),
                lambda i: (i + 1) * (n_all - n_marked - n_drawn + i + 1) / ((n_marked - i) * (n_drawn - i))
            ),
            lambda total, ratio: (1 + total) * ratio,
            0.0::double
        ) / list_reduce(
            list_transform(
                range(least(n_marked, n_drawn) - 1, n_found - 1, -1),
                lambda i: (n_marked - i) * (n_drawn - i) / ((i + 1) * (n_all - n_marked - n_drawn + i + 1))
            ),
            lambda total, ratio: 1 + total * ratio,
            1.0::double
        ))
    end;

-- P(X >= n_found) of the binomial distribution, summed likewise.
create or replace macro binomial_tail(n_found, n_trials, probability) as
    case
        when n_found + n_trials + probability is null then null
        when n_found <= 0 then 1.0::double
        when n_found > n_trials or probability <= 0 then 0.0::double
        when probability >= 1 then 1.0::double
        else 1 / (1 + list_reduce(
            list_transform(
                range(0, n_found),
                lambda i: (i + 1) * (1 - probability) / ((n_trials - i) * probability)
            ),
            lambda total, ratio: (1 + total) * ratio,
            0.0::double
        ) / list_reduce(
            list_transform(
                range(n_trials - 1, n_found - 1, -1),
                lambda i: (n_trials - i) * probability / ((i + 1) * (1 - probability))
            ),
            lambda total, ratio: 1 + total * ratio,
            1.0::double
        ))
    end;
