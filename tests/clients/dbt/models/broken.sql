{{ config(materialized='table', tags=['broken']) }}
SELECT nope FROM {{ ref('customers') }}
