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

-- Whether activation marks the function's positives or its negatives (complement), whichever rises higher above chance;
-- an unknown prevalence counts as .5. NULL where ap_complement is.
create or replace macro direction(ap, ap_complement, prevalence) as
    case
        when ap - coalesce(prevalence, 0.5) >= ap_complement - (1 - coalesce(prevalence, 0.5)) then 'positive'
        when ap_complement is not null then 'complement'
    end;

-- What a ranking orders neurons by: their lift (predictivity, where the prevalence is unknown), or as in the paper their
-- predictivity. Any other ranking is an error.
create or replace macro ranked(ranking, by_lift, by_predictivity) as
    case ranking
        when 'lift' then by_lift
        when 'predictivity' then by_predictivity
        else error('there is no ranking ' || coalesce(ranking, 'NULL') || '; there are lift and predictivity')
    end;

-- The lift, below 0 where the neuron detects the complement: neither a neuron that turns from a function to its complement
-- nor the size of mere noise counts as kept. NULL prevalences count as .5, where it ranks as the average precisions do.
create or replace macro signed_lift(ap, ap_complement, prevalence) as
    lift(ap, ap_complement, coalesce(prevalence, 0.5))
    * if(ap - coalesce(prevalence, 0.5) >= ap_complement - (1 - coalesce(prevalence, 0.5)), 1, -1);

-- A score in the direction another half prefers: so that what is held out chooses nothing, its direction neither.
create or replace macro in_direction(preference, positive, complement) as
    case when preference >= 0 then positive when preference < 0 then complement end;

-- Harmonic numbers, 1 + 1/2 + ... + 1/n and 1 + 1/4 + ... + 1/n², by their asymptotic series (to 1e-5 from n = 4 on).
create or replace macro harmonic(n) as ln(n) + 0.5772156649015329 + 1 / (2 * n) - 1 / (12 * n ** 2);
create or replace macro harmonic_squares(n) as 1.6449340668482264 - 1 / n + 1 / (2 * n ** 2) - 1 / (6 * n ** 3);

-- Mean and standard deviation of average precision under permutation of labels, of which `positive` of n are positive,
-- for activations without ties; h and h2 are the harmonic numbers of n. With y the labels by rank, positive * AP is the
-- sum of y_s * y_r / r over s <= r: its moments are sums of 1 / r and 1 / r² times the chance that two, three or four
-- given labels are positive.
create or replace macro chance_ap(positive, n, h) as (h + (positive - 1) / greatest(n - 1, 1) * (n - h)) / n;
create or replace macro pair_moment(h, h2) as 3 * h - 5 * h2 + 2 * h * h;
create or replace macro triple_moment(n, h, h2) as 2 * h * (n - h) + 5 * n - 9 * h + 7 * h2 - 3 * h * h;
create or replace macro quadruple_moment(n, h, h2) as (n - h) ** 2 - 5 * n + 6 * h - 3 * h2 + 2 * h * h;
create or replace macro chance_ap_deviation(positive, n, h, h2) as
    sqrt(greatest(0, (
        h2
        + (positive - 1) / greatest(n - 1, 1) * (
            pair_moment(h, h2)
            + (positive - 2) / greatest(n - 2, 1) * (
                triple_moment(n, h, h2) + (positive - 3) / greatest(n - 3, 1) * quadruple_moment(n, h, h2)
            )
        )
    ) / n / nullif(positive, 0) - chance_ap(positive, n, h) ** 2));

-- Whether a neuron is alive, from its smallest and largest activation: it does not do the same on all instances.
create or replace macro is_alive(smallest, largest) as smallest < largest;

-- The ranks of a list of whole numbers, less their mean and doubled: for each how many are below it less how many are
-- above. Equal numbers share their average rank, and all are whole numbers. Sorted both ways with ties in the order of
-- the list, equal numbers have what precedes them in common, which the difference takes out. NULL if a number is. Sorted
-- is one number made of both, the number and its place: numbers up to 2^38 and lists up to 2^24 long.
create or replace macro centred_ranks(numbers) as
    case
        when list_count(numbers) = len(numbers) then list_transform(
            list_zip(
                list_grade_up(list_grade_up(list_transform(numbers, lambda number, i: number * 16777216 + i))),
                list_grade_up(list_grade_up(list_transform(numbers, lambda number, i: -number * 16777216 + i)))
            ),
            lambda places: (places[1] - places[2])::double
        )
    end;

-- A score as a whole number of billionths: sums of these do not depend on their order, and take half the memory.
create or replace macro billionths(score) as round(score * 1e9)::int;

-- Spearman's rank correlation of two lists, from the centred ranks of both: sums of whole numbers, so exact until the
-- last step. NULL where all scores of a list are equal.
create or replace macro spearman(ranks, other_ranks) as
    list_inner_product(ranks, other_ranks)
    / nullif(sqrt(list_inner_product(ranks, ranks) * list_inner_product(other_ranks, other_ranks)), 0);

-- Reliability of a whole from the correlation of its halves (Spearman 1910, Brown 1910).
create or replace macro spearman_brown(split_half) as 2 * split_half / (1 + split_half);

-- What two measurements could correlate at if only noise kept them apart, and each had its own: the square root of
-- the product of their reliabilities. NULL where the halves of either do not correlate above 0.
create or replace macro noise_ceiling(split_half, other_split_half) as
    case
        when split_half > 0 and other_split_half > 0
            then sqrt(spearman_brown(split_half) * spearman_brown(other_split_half))
    end;

-- Spearman's correction for attenuation (1904): what half a of one measurement and half b of another would correlate
-- at if neither had noise. May exceed 1 by chance. NULL where there is too little signal to correct by: where either
-- split half correlates below .18, a noise ceiling of .3 if both do, or below two standard errors of the correlation of
-- as many units that have none, 1 / sqrt(units - 1) in one layer and 1 / sqrt(units - layers) of the mean over several.
create or replace macro disattenuated(cross_half, split_half, other_split_half, units_less_layers) as
    case
        when split_half >= greatest(0.18, 2 / sqrt(units_less_layers))
            and other_split_half >= greatest(0.18, 2 / sqrt(units_less_layers))
            then cross_half / sqrt(split_half * other_split_half)
    end;

-- Standard error of an estimate by the jackknife (Quenouille 1956, Tukey 1958), from the estimates without one
-- part each: sqrt((n - 1) / n * sum of their squared distances from their mean). NULL for fewer than 3, or if one is.
create or replace macro jackknife_error(estimates) as
    case
        when len(estimates) >= 3 and list_count(estimates) = len(estimates)
            then sqrt((len(estimates) - 1) * list_var_pop(estimates))
    end;

-- Whether a crossing that ends at this place may lie before it, as the place before it has no value.
create or replace macro crossing_is_censored(points, place) as
    coalesce(place <= len(points) and (place = 1 or points[place - 1].value is null), false);

-- Where a curve crosses a threshold between the point at this place in the list and the point before, by linear
-- interpolation; where there is no value before, the point itself. NULL where there is no such place.
create or replace macro crossing_step(points, threshold, place) as
    case
        when crossing_is_censored(points, place) then points[place].step::double
        else points[place - 1].step
            + (threshold - points[place - 1].value) / (points[place].value - points[place - 1].value)
            * (points[place].step - points[place - 1].step)
    end;

-- The place after the last point that is below a threshold or has no value; there may be none.
create or replace macro lasting_place(points, threshold) as
    list_max(list_transform(points, lambda point, place: if(point.value >= threshold, 0, place))) + 1;

-- The rows of neuron_scores, from a table of the columns of neuron_functions given by name, and from run_functions.
create or replace macro scored(score_table) as table
    with counts as (
        select
            *,
            nullif(n_positive_half_a + n_negative_half_a, 0) as n_half_a,
            nullif(n_positive_half_b + n_negative_half_b, 0) as n_half_b,
            harmonic(n_half_a) as h_half_a,
            harmonic(n_half_b) as h_half_b,
            harmonic_squares(n_half_a) as h2_half_a,
            harmonic_squares(n_half_b) as h2_half_b,
        from run_functions
    ),

    prevalences as (
        select
            run_id,
            family,
            function,
            prevalence,
            n_positive_half_a / n_half_a as prevalence_half_a,
            n_positive_half_b / n_half_b as prevalence_half_b,
            chance_ap(n_positive_half_a, n_half_a, h_half_a) as chance_half_a,
            chance_ap(n_negative_half_a, n_half_a, h_half_a) as chance_complement_half_a,
            chance_ap_deviation(n_positive_half_a, n_half_a, h_half_a, h2_half_a) as deviation_half_a,
            chance_ap_deviation(n_negative_half_a, n_half_a, h_half_a, h2_half_a) as deviation_complement_half_a,
            chance_ap(n_positive_half_b, n_half_b, h_half_b) as chance_half_b,
            chance_ap(n_negative_half_b, n_half_b, h_half_b) as chance_complement_half_b,
            chance_ap_deviation(n_positive_half_b, n_half_b, h_half_b, h2_half_b) as deviation_half_b,
            chance_ap_deviation(n_negative_half_b, n_half_b, h_half_b, h2_half_b) as deviation_complement_half_b,
        from counts
    )

    select
        scores.run_id,
        scores.model,
        scores.revision,
        scores.step,
        scores.stack,
        scores.layer,
        scores.neuron,
        scores.family,
        scores.function,
        scores.ap,
        scores.ap_complement,
        prevalences.prevalence,
        direction(scores.ap, scores.ap_complement, prevalence) as direction,
        predictivity(scores.ap, scores.ap_complement) as predictivity,
        lift(scores.ap, scores.ap_complement, prevalence) as lift,
        (abs(
            in_direction(
                scores.ap - prevalence - (scores.ap_complement - (1 - prevalence)),
                scores.ap_half_a - prevalence_half_a,
                scores.ap_complement_half_a - (1 - prevalence_half_a)
            ) / greatest(prevalence_half_a, 1 - prevalence_half_a)
            - in_direction(
                scores.ap - prevalence - (scores.ap_complement - (1 - prevalence)),
                scores.ap_half_b - prevalence_half_b,
                scores.ap_complement_half_b - (1 - prevalence_half_b)
            ) / greatest(prevalence_half_b, 1 - prevalence_half_b)
        ) / 2)::float as lift_error,
        coalesce(
            lift(scores.ap, scores.ap_complement, prevalence),
            predictivity(scores.ap, scores.ap_complement)
        ) as ranking,
        predictivity(scores.ap_half_a, scores.ap_complement_half_a) as predictivity_half_a,
        predictivity(scores.ap_half_b, scores.ap_complement_half_b) as predictivity_half_b,
        lift(scores.ap_half_a, scores.ap_complement_half_a, prevalence_half_a) as lift_half_a,
        lift(scores.ap_half_b, scores.ap_complement_half_b, prevalence_half_b) as lift_half_b,
        coalesce(
            lift(scores.ap_half_a, scores.ap_complement_half_a, prevalence_half_a),
            predictivity(scores.ap_half_a, scores.ap_complement_half_a)
        ) as ranking_half_a,
        coalesce(
            lift(scores.ap_half_b, scores.ap_complement_half_b, prevalence_half_b),
            predictivity(scores.ap_half_b, scores.ap_complement_half_b)
        ) as ranking_half_b,
        greatest(
            (scores.ap_half_a - chance_half_a) / nullif(deviation_half_a, 0),
            (scores.ap_complement_half_a - chance_complement_half_a) / nullif(deviation_complement_half_a, 0)
        )::float as evidence_half_a,
        greatest(
            (scores.ap_half_b - chance_half_b) / nullif(deviation_half_b, 0),
            (scores.ap_complement_half_b - chance_complement_half_b) / nullif(deviation_complement_half_b, 0)
        )::float as evidence_half_b,
        signed_lift(scores.ap, scores.ap_complement, prevalence) as signed_lift,
        signed_lift(scores.ap_half_a, scores.ap_complement_half_a, prevalence_half_a) as signed_lift_half_a,
        signed_lift(scores.ap_half_b, scores.ap_complement_half_b, prevalence_half_b) as signed_lift_half_b,
        in_direction(
            scores.ap_half_b - scores.ap_complement_half_b, scores.ap_half_a, scores.ap_complement_half_a
        ) as held_out_predictivity_a,
        in_direction(
            scores.ap_half_a - scores.ap_complement_half_a, scores.ap_half_b, scores.ap_complement_half_b
        ) as held_out_predictivity_b,
        in_direction(
            scores.ap_half_b - scores.ap_complement_half_b + 1 - 2 * prevalence_half_b,
            scores.ap_half_a - prevalence_half_a,
            scores.ap_complement_half_a - (1 - prevalence_half_a)
        ) / greatest(prevalence_half_a, 1 - prevalence_half_a) as held_out_lift_a,
        in_direction(
            scores.ap_half_a - scores.ap_complement_half_a + 1 - 2 * prevalence_half_a,
            scores.ap_half_b - prevalence_half_b,
            scores.ap_complement_half_b - (1 - prevalence_half_b)
        ) / greatest(prevalence_half_b, 1 - prevalence_half_b) as held_out_lift_b,
        scores.p_value,
    from query_table(score_table) as scores
    left join prevalences using (run_id, family, function);

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

-- The rows of a table, view or CTE, given by name, with one column more: q_value, the p values adjusted for the false
-- discovery rate (Benjamini and Hochberg 1995). Of n tests it is the least of p n / rank over this p value and all
-- larger ones; equal p values share a rank, the last of theirs. Rows without a p value count as no test and have no
-- q_value. Tests count together where all keys are equal, which are columns, one to eight. Each is a window's own, not
-- a field of a struct: a filter on one of them then reaches the files.
create or replace macro benjamini_hochberg(
    tests, p, key_1,
    key_2 := null, key_3 := null, key_4 := null, key_5 := null, key_6 := null, key_7 := null, key_8 := null
) as table
    select
        * exclude (n_tested, p_rank),
        case when p is not null then
            min(p * n_tested / p_rank)
                over (partition by key_1, key_2, key_3, key_4, key_5, key_6, key_7, key_8 order by p desc)
        end as q_value,
    from (
        select
            *,
            count(p) over (partition by key_1, key_2, key_3, key_4, key_5, key_6, key_7, key_8) as n_tested,
            count(p) over (partition by key_1, key_2, key_3, key_4, key_5, key_6, key_7, key_8 order by p) as p_rank,
        from query_table(tests)
    );

-- For each instance, the characters of the token on which a neuron fires most, from a table of the columns of top_tokens.
create or replace macro fired(token_table, of_run, of_stack, of_layer, of_neuron) as table
    select
        corpus,
        instance_id,
        arg_max(start_char, abs(activation)) as token_start,
        arg_max(end_char, abs(activation)) as token_end,
    from query_table(token_table)
    where run_id = of_run and stack = of_stack and layer = of_layer and neuron = of_neuron
    group by all;

-- A text cut to a width, with an ellipsis where something is cut off.
create or replace macro shortened(text, width) as if(len(text) <= width, text, left(text, width - 1) || '…');

-- A text on one line: a span of it between two marks, cut around the span to `width` characters; without a span the text
-- is cut at its end. What one side of the span does not need is the other's.
create or replace macro excerpt_between(text, start_char, end_char, width, opening, closing) as
    case
        when start_char is null then shortened(trim(regexp_replace(text, '[\s\pZ\x0b\x1c-\x1f\x{85}]+', ' ', 'g')), width)
        else (
            select
                trim(regexp_replace(
                    concat(
                        if(n_before < start_char, '…', ''),
                        substring(text, start_char - n_before + 1, n_before),
                        opening, span, closing,
                        substring(text, end_char + 1, room - n_before),
                        if(end_char + room - n_before < len(text), '…', '')
                    ),
                    '[\s\pZ\x0b\x1c-\x1f\x{85}]+', ' ', 'g'
                )),
            from (
                select
                    shortened(substring(text, start_char + 1, end_char - start_char), width) as span,
                    width - len(span) as room,
                    least(start_char, greatest(room // 2, room - (len(text) - end_char))) as n_before,
            )
        )
    end;

-- An instance on one line: its span in brackets.
create or replace macro excerpt(text, start_char, end_char, width) as
    excerpt_between(text, start_char, end_char, width, '[', ']');

-- The same, with the token of it on which a neuron fires between « and », unless the token is the span or NULL; a whole
-- text is cut around the token.
create or replace macro highlighted(text, start_char, end_char, token_start, token_end, width) as
    case
        when token_start is null or token_start = token_end then excerpt(text, start_char, end_char, width)
        when start_char is null then excerpt_between(text, token_start, token_end, width, '«', '»')
        when token_start <= start_char and token_end >= end_char then excerpt(text, start_char, end_char, width)
        else excerpt(
            concat(
                left(text, greatest(token_start, start_char)),
                '«',
                substring(
                    text,
                    greatest(token_start, start_char) + 1,
                    least(token_end, end_char) - greatest(token_start, start_char)
                ),
                '»',
                substring(text, least(token_end, end_char) + 1)
            ),
            start_char,
            end_char + 2,
            width
        )
    end;
