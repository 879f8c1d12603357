-- status_lacks: what do the runs, partitions and corpora of a store lack, and which commands add it?
--
-- Parameters:
--   $run_id: the run whose gaps are asked for; NULL for the gaps of the store, which are of the last checkpoint of each
--     series, with several checkpoints in one row where one command serves them
-- Columns:
--   what: what is lacking
--   n: of how many
--   names: of which
--   words: the words of the command
with known as (
    select
        *,
        coalesce(is_random_init, false) as is_random,
        [model, corpus, corpus_sha256, site, pooling, coalesce(special_tokens, 'drop'), coalesce(halves, 'text'),
            coalesce(min_instances, 0)::varchar, router, dtype, storage, max_tokens::varchar, layers] as series,
        -- A folder that is a model has no subfolder main, which is what no revision means.
        case
            when is_random then ['--random-init', seed::varchar]
            when revision != 'main' then ['--revision', revision]
            else []
        end as chosen,
        list_filter(
            [
                if(site != 'activation', '--site=' || site, null),
                if(pooling != 'max', '--pooling=' || pooling, null),
                if(special_tokens = 'keep', '--special-tokens=keep', null),
                if(halves = 'word', '--halves=word', null),
                if(min_instances > 0, '--min-instances=' || min_instances, null),
                if(router = 'blind', '--router=blind', null),
                if(dtype != 'float32', '--dtype=' || dtype, null),
                if(storage != 'float32', '--storage=' || storage, null),
                if(max_tokens != 512, '--max-tokens=' || max_tokens, null),
                if(layers is not null, '--layers=' || layers, null),
                if(n_top != 10, '--top=' || n_top, null),
            ],
            lambda word: word is not null
        ) as settings,
    from runs
    -- Instances kept of a neuron are no column of a run.
    left join (select run_id, max(rank) as n_top from top_instances where neuron = 0 group by all) using (run_id)
),

counted as (
    select
        *,
        count(distinct if(is_random, null, step)) over (partition by series) as n_steps,
        bool_or(is_random) over (partition by series) as has_random,
    from known
),

-- As a report pictures them: of a series the last step, else main; a random initialisation if there is no other.
placed as (
    select
        *,
        row_number() over (
            partition by series
            order by
                is_random,
                if(n_steps > 1, -step, null) nulls last,
                if(n_steps > 1, revision, null),
                revision != 'main',
                step desc nulls first,
                revision desc,
                run_id desc
        ) = 1 as is_last,
    from counted
),

measured as (from placed where measurement = 'measured'),

gaps as (
    select
        1 as place,
        run_id,
        is_last,
        step,
        concat_ws(' ', model, revision, 'on ' || corpus) as name,
        'no random initialisation to compare with' as what,
        ['ingest', model, '--corpus', corpus, '--random-init', '0']
            || if(run_id in (select run_id from control_functions), ['--controls'], []) || settings as head,
        [] as own,
        [] as tail,
    from measured
    where is_last and not has_random
    union all
    select
        2,
        run_id,
        is_last or not is_random,
        step,
        concat_ws(' ', model, revision, 'on ' || corpus),
        'no control functions, so texts and words alone may explain what neurons detect',
        ['ingest', model, '--corpus', corpus],
        chosen,
        ['--controls'] || settings,
    from measured
    where run_id not in (select run_id from control_functions)
    union all
    select
        3,
        run_id,
        is_last,
        step,
        concat_ws(' ', model, revision),
        'no experts that were made without scores',
        ['partition', model],
        chosen,
        ['--experts', '16'],
    from placed
    where (model, revision) not in (
        select (model, revision) from partitions where half is null and method not in ('random', 'matched', 'function')
    )
    union all
    select
        4,
        run_id,
        is_last,
        step,
        concat_ws(' ', model, revision, 'on ' || corpus),
        'no ablations, so nothing shows that the network uses these neurons',
        ['perturb', model],
        chosen,
        ['--run', run_id, '--top'],
    from measured
    -- Only what was read there is ablated, and only neurons chosen on other texts than they are tested on.
    where
        site = 'activation' and coalesce(halves, 'text') = 'text'
        and run_id not in (select run_id from perturbation_studies)
    union all
    select
        5,
        run_id,
        is_last,
        step,
        model,
        'the stability of its checkpoints is not computed',
        ['emergence', model, '--run', run_id, '--experts', '16'],
        [],
        [],
    from measured
    where n_steps > 2 and is_last and model not in (select model from stabilities)
    union all
    select
        6,
        run_id,
        is_last,
        other.step,
        concat_ws(' ', model, other.revision),
        concat('checkpoints not measured on ', corpus),
        ['ingest', model, '--corpus', corpus],
        ['--revision', other.revision],
        settings,
    from measured
    inner join (
        select model, revision, step from checkpoints
        union
        select model, revision, step from known where not is_random
    ) as other using (model)
    where is_last and not is_random and (series, other.revision) not in (select (series, revision) from known)
    union all
    select
        7,
        null,
        true,
        step,
        partition_id,
        'a partition without alignments',
        ['align', partition_id],
        [],
        [],
    from partitions
    where
        method not in ('random', 'matched') and (model, revision) in (select (model, revision) from runs)
        and partition_id not in (select partition_id from alignments union all select partition_id from emergence_partitions)
    union all
    select
        8,
        null,
        true,
        null,
        corpus,
        'a corpus without a run',
        ['ingest', coalesce((select arg_max(model, started_at) from measured), 'MODEL'), '--corpus', corpus],
        [],
        [],
    from corpora
    where corpus not in (select corpus from measured)
)

select
    what,
    count(*) as n,
    array_to_string(list(name order by step nulls first, name)[:5], ', ') || if(n > 5, ', …', '') as names,
    head || flatten(list(own order by step nulls first, own)) || tail as words,
from (
    select distinct place, what, step, name, head, own, tail
    from gaps
    where coalesce(run_id = $run_id, $run_id is null and is_last)
)
group by place, what, head, tail, if(place = 3, own, []), own = []
order by place, min(step) nulls first, names
